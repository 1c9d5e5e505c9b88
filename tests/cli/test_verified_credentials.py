"""``--verify-credentials`` of ``rotate`` and ``renew`` over a directory, against the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from credrotator.policies.annotations import VERIFY
from credrotator.sandbox import ServiceError
from tests.support.command_line import Backend, run

if TYPE_CHECKING:
    from credrotator.sandbox import Sandbox
    from credrotator.sandbox.recording import RecordedRequest


def asks_whose_it_is(request: RecordedRequest) -> bool:
    """Tell whether STS is asked whose a session is."""
    return request.form.get("Action") == "GetCallerIdentity"


def annotate(world: Backend, value: str) -> None:
    """Write the annotation into the policy's manifest."""
    path = world.manifests / "default-bedrock.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["metadata"]["annotations"] = {VERIFY: value}
    path.write_text(yaml.safe_dump(manifest))


def test_every_provider_of_the_gateway(world: Backend, sandbox: Sandbox) -> None:
    """Good credentials are published as without it."""
    world.aws()
    world.azure()
    world.azure_secret()
    world.gcp()
    world.gcp_key(sandbox)
    ran = world.rotate("-o", "json", "--verify-credentials")
    assert (ran.code, ran.err, set(ran.actions.values())) == (0, "", {"rotated"})
    assert sandbox.google.requests.count("/tokeninfo") == 2


def test_rejected(world: Backend, sandbox: Sandbox) -> None:
    """Rotate and renew keep the old one, exit with 1, and say why; a policy may ask for it by itself."""
    world.aws()
    assert world.rotate().code == 0
    before = world.value()
    with sandbox.sts.faults.add(ServiceError("ExpiredToken"), when=asks_whose_it_is):
        ran = world.rotate("-o", "json", "--force", "--verify-credentials")
        error = ran.result("default/bedrock")["error"]
        assert (ran.code, error["reason"], error["kind"]) == (1, "CredentialRejected", "denied")
        options = ("-f", str(world.manifests), "--out", str(world.out), "default/bedrock")
        assert run("renew", *options, "--verify-credentials").code == 1
        assert world.value() == before
        annotate(world, "true")
        assert world.rotate("--force").code == 1
        assert world.value() == before
        annotate(world, "false")
        assert world.rotate("--force", "--verify-credentials").code == 0
    assert world.value() != before
