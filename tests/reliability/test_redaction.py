"""I9: no secret in anything that credrotator puts out, not even with every library's logger at DEBUG.

Canaries are planted for all secrets that go in, and collected from the sandbox for all that come out; then everything
that was put out is searched for them, and for what is left of them in other encodings.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import requests

from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_CLIENT,
    DEFAULT_TENANT,
    App,
    Client,
    Fault,
    FederatedCredential,
    Sandbox,
    ServiceError,
)
from tests.support import cluster_policies
from tests.support.cluster_policies import ENTRA_CLIENT, ISSUER_CLIENT
from tests.support.kube.simulator import ApiServer
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug import Request, Response

    from credrotator.sandbox.faults import FaultyServer

# Two dozen processes, one after the other, before the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CLIENT_SECRET = "canary cl1ent/s3cret+%&=\"'<x>"
ENTRA_SECRET = "canary~entra.s3cret_Q8Q~"
ACCOUNT_TOKEN = "canary-service-account-t0ken"
PROXY_PASSWORD = "canary-pr0xy-passw0rd"
START_S = 2 * LIMIT_S
AWS, FEDERATED, BY_SECRET, GCP, BY_KEY = "bedrock", "openai", "openai-secret", "vertex", "vertex-key"


@dataclass
class Evidence:
    """What was put out, by where it was found, and what must not be in it."""

    outputs: dict[str, str] = field(default_factory=dict)
    canaries: dict[str, str] = field(default_factory=dict)

    def found(self, name: str) -> list[str]:
        """Name the canaries that stand in one output, in any of the forms in which a program might write them."""
        text = self.outputs[name]
        return [canary for canary, secret in self.canaries.items() if any(form in text for form in _forms(secret))]


def _forms(secret: str) -> set[str]:
    plain = {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
    encoded = {base64.b64encode(secret.encode()).decode().rstrip("=")}
    # A part of a long one is one too many.
    return plain | encoded | ({secret[:24], secret[-24:]} if len(secret) > 100 else set())


@dataclass(frozen=True)
class Echo(Fault):
    """Refuse, and repeat what was presented."""

    kind: ClassVar[str] = "answer"

    def answer(self, request: Request, server: FaultyServer, /) -> Response | None:
        """Return the refusal."""
        code = {"sts": "AccessDenied", "entra": "700211", "google": "invalid_grant"}[server.name]
        shown = " ".join([*request.form.values(), request.headers.get("Authorization", "")])
        return server.refusal(code, f"not with {shown}")


class Destination:
    """Sandbox, cluster and directory with all kinds of policies, reached through a proxy that wants a password."""

    def __init__(self, directory: Path, sandbox: Sandbox, server: ApiServer) -> None:
        self.directory, self.sandbox, self.server = directory, sandbox, server
        self.evidence = Evidence()
        sandbox.issuer.clients[DEFAULT_CLIENT] = Client(CLIENT_SECRET, DEFAULT_CLIENT)
        record = FederatedCredential(sandbox.issuer.url, DEFAULT_CLIENT)
        sandbox.entra.tenants[DEFAULT_TENANT] = {DEFAULT_APP: App({ENTRA_SECRET: None}, [record])}
        issuer = sandbox.issuer.url
        policies = [
            cluster_policies.aws(AWS, issuer),
            cluster_policies.azure_federated(FEDERATED, issuer),
            cluster_policies.azure_secret(BY_SECRET),
            cluster_policies.gcp(GCP, issuer),
            cluster_policies.gcp_key(BY_KEY),
        ]
        key_file = sandbox.google.accounts[DEFAULT_ACCOUNT].new_key(DEFAULT_ACCOUNT)
        self.private_key: str = json.loads(key_file)["private_key"]
        secrets = [
            cluster_policies.secret(ISSUER_CLIENT, {"client-secret": CLIENT_SECRET}),
            cluster_policies.secret(ENTRA_CLIENT, {"client-secret": ENTRA_SECRET}),
            cluster_policies.secret(BY_KEY, {"service_account.json": key_file}),
        ]
        for item in policies:
            server.create("backendsecuritypolicies", item)
        for item in secrets:
            server.create("secrets", item)
        (directory / "all.json").write_text(
            json.dumps({"kind": "List", "apiVersion": "v1", "items": policies + secrets})
        )
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig", user={"token": ACCOUNT_TOKEN})
        proxy = sandbox.add_proxy()
        proxy.credentials = ("operator", PROXY_PASSWORD)
        through = f"http://operator:{PROXY_PASSWORD}@{urlsplit(proxy.url).netloc}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            **sandbox.environment(),
            "NO_PROXY": "",
            "HTTPS_PROXY": through,
        }

    @property
    def over_directory(self) -> list[str]:
        """Options that lead to the manifests."""
        return ["-f", str(self.directory / "all.json"), "--out", str(self.directory / "out")]

    @property
    def over_cluster(self) -> list[str]:
        """Options that lead to the API server."""
        return ["--kubeconfig", str(self.kubeconfig), "-n", cluster_policies.NAMESPACE]

    def popen(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command, as loud as can be."""
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.reliability.loud", "-vv", *arguments]
        environment = {**self.environment, **variables}
        output = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)

    def ran(self, *arguments: str, **variables: str) -> str:
        """Run a command to its end and return all that it said."""
        with self.popen(*arguments, **variables) as process:
            return process.communicate(timeout=3 * LIMIT_S)[0]

    def collect(self) -> None:
        """Take down everything that must not be seen: what went in, and what came out of the services."""
        canaries = self.evidence.canaries
        canaries |= {"client secret": CLIENT_SECRET, "Entra's client secret": ENTRA_SECRET}
        canaries |= {"service-account token": ACCOUNT_TOKEN, "proxy password": PROXY_PASSWORD}
        canaries |= {"private key": self.private_key, "private key's body": self.private_key.split("\n")[5]}
        canaries |= {f"Google token {number}": token for number, token in enumerate(self.sandbox.google.grants)}
        for number, session in enumerate(list(self.sandbox.sts.sessions.values())):
            canaries[f"AWS secret key {number}"] = session.secret_access_key
            canaries[f"AWS session token {number}"] = session.session_token
        for service in (self.sandbox.issuer, *self.sandbox.vendors):
            for number, request in enumerate(service.requests):
                for name in ("WebIdentityToken", "client_assertion", "subject_token", "assertion"):
                    if name in request.form:
                        # A JWT's head says nothing, and is the same in all; its signature is what makes it one.
                        canaries[f"{name} {number}"] = request.form[name].rpartition(".")[2]
                if "Authorization" in request.headers:
                    canaries[f"{service.name} header {number}"] = request.headers["Authorization"].partition(" ")[2]
        tokens = [path.read_text() for path in (self.directory / "out").glob("*/*/azureAccessToken")]
        encoded = [secret.get("data", {}).get("azureAccessToken", "") for secret in self.server.items("secrets")]
        tokens += [base64.b64decode(token).decode() for token in encoded if token]
        canaries |= {f"Entra token {number}": token.rpartition(".")[2] for number, token in enumerate(tokens)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Destination]:
    """Run everything once, and keep what was put out."""
    directory = tmp_path_factory.mktemp("canaries")
    directory.chmod(0o700)
    with Sandbox(directory / "sandbox") as sandbox, ApiServer() as server:
        found = Destination(directory, sandbox, server)
        outputs = found.evidence.outputs
        _run_commands(found, outputs)
        _run_daemon(found, outputs)
        found.collect()
        yield found


def _run_commands(site: Destination, outputs: dict[str, str]) -> None:
    here, there = site.over_directory, site.over_cluster
    template = site.directory / "template"
    template.write_text('{{ secrets["default/ai-eg-bsp-bedrock"].credentials.nothing.at_all }}')
    outputs["rotate"] = site.ran("rotate", *here, "-o", "json", "--template", f"{template}:{site.directory / 'to'}")
    outputs["rotate, POST"] = _by_post(site, "rotate", *here, "--force", "-o", "wide")
    outputs["rotate, exploding"] = site.ran("rotate", *here, "--force", LOUD_EXPLODE="answer")
    # Whoever refuses a secret may well repeat it.
    reflected = ServiceError("invalid_client", f"no client with the secret {CLIENT_SECRET} is known")
    too = ServiceError("7000215", f"Invalid client secret provided: {ENTRA_SECRET}.")
    with (
        site.sandbox.issuer.faults.add(reflected, path="/token"),
        site.sandbox.entra.faults.add(too, path="*/token"),
    ):
        outputs["rotate, refused"] = site.ran("rotate", *here, "--force", "-o", "yaml")
    with (
        site.sandbox.sts.faults.add(Echo()),
        site.sandbox.entra.faults.add(Echo(), path="*/token"),
        site.sandbox.google.faults.add(Echo(), path="*token"),
    ):
        outputs["rotate, echoed"] = site.ran("rotate", *here, "--force", "-o", "yaml")
    as_json = {"CREDROTATOR_LOG_FORMAT": "json"}
    outputs["rotate, JSON"] = _by_post(site, "rotate", *here, "--force", **as_json)
    outputs["rotate, exploding, JSON"] = site.ran("rotate", *here, "--force", LOUD_EXPLODE="answer", **as_json)
    outputs["status"] = site.ran("status", *here, "-o", "wide")
    outputs["check"] = site.ran("check", *here)
    outputs["convert"] = site.ran("convert", *here)
    outputs["rotate in a cluster"] = site.ran("rotate", *there, "--force")
    outputs["status of a cluster"] = site.ran("status", *there, "-o", "json")
    outputs["check of a cluster"] = site.ran("check", *there)
    kubeconfig = site.server.kubeconfig(
        site.directory / "odd", cluster={"proxy-url": f"socks5://operator:{PROXY_PASSWORD}@127.0.0.1:1"}
    )
    outputs["an odd proxy"] = site.ran("status", "--kubeconfig", str(kubeconfig))
    broken = site.directory / "broken.yaml"
    broken.write_text(f"kind: Secret\nstringData:\n  client-secret: [{ACCOUNT_TOKEN}\n")
    outputs["a broken manifest"] = site.ran("rotate", "-f", str(broken), "--out", str(site.directory / "out"))
    outputs["outcome files"] = "".join(path.read_text() for path in (site.directory / "out").glob(".credrotator/*/*"))
    outputs["unmasked"] = _by_post(site, "rotate", *here, "--force", LOUD_UNMASKED="1")


def _by_post(site: Destination, *arguments: str, **variables: str) -> str:
    """Have the client secret travel in the body, where it is form-encoded."""
    methods, site.sandbox.issuer.auth_methods = site.sandbox.issuer.auth_methods, ["client_secret_post"]
    try:
        return site.ran(*arguments, **variables)
    finally:
        site.sandbox.issuer.auth_methods = methods


def _run_daemon(site: Destination, outputs: dict[str, str]) -> None:
    """Run it in the cluster, exploding first, then well; end it by a crash that dumps all stacks."""
    options = [*site.over_cluster, "--listen", "127.0.0.1:0", "--no-leader-elect"]
    for policy in (AWS, FEDERATED, BY_SECRET, GCP, BY_KEY):
        with contextlib.suppress(Exception):
            site.server.delete("secrets", f"ai-eg-bsp-{policy}")
    with site.popen("run", *options, LOUD_EXPLODE="token") as exploding:
        log = _said(exploding, "LookupError")
        exploding.send_signal(signal.SIGTERM)
        outputs["daemon, exploding"] = log + exploding.communicate(timeout=LIMIT_S)[0]
    with site.popen("run", *options) as daemon:
        log = _said(daemon, "published default/ai-eg-bsp-bedrock")
        url = re.search(r"listening on (\S+)", log)
        assert url is not None
        outputs["/metrics"] = requests.get(f"http://{url[1]}/metrics", timeout=LIMIT_S).text
        proc = Path(f"/proc/{daemon.pid}")
        outputs["/proc/PID/cmdline"] = (proc / "cmdline").read_bytes().decode()
        outputs["/proc/PID/environ"] = (proc / "environ").read_bytes().decode()
        daemon.send_signal(signal.SIGABRT)
        outputs["daemon and its crash"] = log + daemon.communicate(timeout=LIMIT_S)[0]
    outputs["Events"] = json.dumps(site.server.items("events"))
    outputs["status conditions"] = json.dumps(
        [item.get("status") for item in site.server.items("backendsecuritypolicies")]
    )
    outputs["annotations"] = json.dumps([item["metadata"] for item in site.server.items("secrets")])


def _said(process: subprocess.Popen[str], text: str) -> str:
    """Read what a process says until it has said something."""
    assert process.stdout is not None
    lines, give_up_s = [""], time.monotonic() + START_S
    while text not in lines[-1]:
        assert time.monotonic() < give_up_s, "".join(lines)
        lines.append(process.stdout.readline())
        assert lines[-1], f"it ended:\n{''.join(lines)}"
    return "".join(lines)


OUTPUTS = [
    "rotate", "rotate, POST", "rotate, exploding", "rotate, refused", "rotate, echoed",
    "rotate, JSON", "rotate, exploding, JSON", "status", "check", "convert",
    "outcome files", "rotate in a cluster", "status of a cluster", "check of a cluster", "an odd proxy",
    "a broken manifest", "daemon, exploding", "daemon and its crash", "/metrics", "/proc/PID/cmdline", "Events",
    "status conditions", "annotations",
]  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
def test_invariant_09_no_secret(site: Destination, output: str) -> None:
    """Nothing of what went in or came out stands in it."""
    assert site.evidence.outputs[output]
    assert site.evidence.found(output) == []


def test_invariant_09_environment(site: Destination) -> None:
    """The environment holds what the operator has put there (the proxy, perhaps with a password), and nothing more."""
    assert set(site.evidence.found("/proc/PID/environ")) <= {"proxy password"}
    given = {f"{name}={value}" for name, value in site.environment.items()}
    assert set(site.evidence.outputs["/proc/PID/environ"].strip("\0").split("\0")) == given


def test_vendors_did_speak(site: Destination) -> None:
    """The test of the test: the libraries wrote requests and answers, and without masking secrets are among them."""
    outputs = site.evidence.outputs
    botocore = ("Making request for OperationModel", "Response body", "'WebIdentityToken': ***")
    others = ("HTTP/1.1", "ClientAssertionCredential.get_token succeeded", '"grant_type": "client_credentials"')
    for line in (*botocore, *others):
        assert line in outputs["rotate"], line
    assert "Scheduler started" in outputs["daemon and its crash"]
    assert "<SecretAccessKey>***</SecretAccessKey>" in outputs["rotate"]
    assert "Traceback" in outputs["daemon, exploding"]
    assert "LookupError" in outputs["daemon, exploding"]
    assert "Fatal Python error: Aborted" in outputs["daemon and its crash"]
    assert "not with" in outputs["rotate, echoed"]
    leaked = site.evidence.found("unmasked")
    assert any(name.startswith("AWS secret key") for name in leaked)
    # The SDK prepares a call without a token, and reads the answer: it has none to write.
    assert not any(name.startswith("WebIdentityToken") for name in leaked)


def test_vendors_did_speak_in_json(site: Destination) -> None:
    """So did they where each line is an object; each line about a policy names it and its rotation."""
    lines = [line for line in site.evidence.outputs["rotate, JSON"].splitlines() if line.startswith("{")]
    said = [json.loads(line) for line in lines]
    assert {"botocore.parsers", "credrotator.audit", "urllib3.connectionpool"} <= {line["logger"] for line in said}
    assert any("<SecretAccessKey>***</SecretAccessKey>" in line["message"] for line in said)
    published = [line for line in said if line.get("decision") == "published"]
    assert len({line["rotation"] for line in published}) == len({line["policy"] for line in published}) == 5
    parsed = [line for line in said if line["logger"] == "botocore.parsers"]
    assert {line["policy"] for line in parsed} == {f"default/{AWS}"}
    assert "LookupError" in site.evidence.outputs["rotate, exploding, JSON"]


def test_every_kind_was_planted(site: Destination) -> None:
    """There is a canary of each kind, and each policy did get its credential."""
    kinds = {re.sub(r" \d+$", "", name) for name in site.evidence.canaries}
    assert kinds >= {
        "client secret", "Entra's client secret", "service-account token", "proxy password", "AWS secret key",
        "AWS session token", "WebIdentityToken", "client_assertion", "issuer header", "Entra token",
        "subject_token", "assertion", "google header", "Google token", "private key", "private key's body",
    }  # fmt: skip
    assert {json.loads(line)["action"] for line in _results(site.evidence.outputs["rotate"])} == {"rotated"}
    assert site.server.items("events")


def _results(text: str) -> list[str]:
    found: Any = json.loads(text[text.rindex('{\n  "results"') :].partition("template:")[0])
    return [json.dumps(result) for result in found["results"]]
