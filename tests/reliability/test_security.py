"""The rules of security, each shown at the place where it holds; docs/reliability.md names them."""

from __future__ import annotations

import ast
import logging
import re
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import credrotator
from credrotator.core.errors import Denied, PolicyError
from credrotator.core.model import InvalidPolicy, ObjectKey
from credrotator.core.secretdata import render, show_time
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.connections import tls_context
from credrotator.exchange.http.transport import BODY_LIMIT
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.files.directory import DirectoryStore
from credrotator.observability.audit import Audit
from credrotator.policies.inventory import Grant, Inventory
from credrotator.policies.reader import Defaults
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.builders import NOW, SECRET, aws, aws_credential, read_policy
from tests.support.twins import ExchangeBy

if TYPE_CHECKING:
    from credrotator.core.model import Credential, Policy, Rotatable, SecretKeyRef
    from credrotator.core.ports import SecretReader

PACKAGE = Path(credrotator.__file__).parent
CHART = PACKAGE.parent / "charts" / "credrotator"


def reading(manifest: dict[str, object]) -> Policy:
    """A policy that is well."""
    found = read_policy(manifest, "policy.yaml", Defaults())
    assert not isinstance(found, InvalidPolicy)
    return found


def reference(namespace: str) -> SecretKeyRef:
    """The client secret of a policy in team-a that lies in another namespace."""
    manifest = aws()
    client = manifest["spec"]["awsCredentials"]["oidcExchangeToken"]["oidc"]
    client["clientSecret"] = {"name": "oidc-client", "namespace": namespace}
    source = reading(manifest).source
    return source.references[0]


def test_security_01_another_namespace_takes_a_grant() -> None:
    """A policy's author cannot name anybody's client secret: without a ReferenceGrant there, it is not even read."""
    inventory = Inventory(secrets={ObjectKey("vault", "oidc-client"): {"client-secret": b"s"}})
    read = inventory.reader(ObjectKey("team-a", "bedrock"))
    with pytest.raises(PolicyError, match="no ReferenceGrant"):
        read(reference("vault"))
    inventory.grants.add(Grant("team-a", "vault", "oidc-client"))
    assert read(reference("vault")) == Sensitive("s")


@pytest.mark.parametrize(
    "issuer", ["http://idp.example", "https://evil.example/x.corp.example", "https://corp.example"]
)
def test_security_02_the_operator_says_which_issuers(issuer: str) -> None:
    """With --allowed-issuer only what it names, host by host; without it, https only."""
    with pytest.raises(Denied):
        AllowedIssuers(("https://*.corp.example",)).check(issuer)
    assert AllowedIssuers(("https://*.corp.example",)).check("https://idp.corp.example")


def test_security_03_tls_is_always_verified() -> None:
    """Our contexts verify chain and name and speak TLS 1.2 or newer; no module turns that off."""
    context = tls_context([])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    loose = re.compile(r"verify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False|_create_unverified_context")
    assert [path.name for path in PACKAGE.rglob("*.py") if loose.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("region", "us-east-1.evil.example/"),
        ("region", "us-east-1@evil.example"),
        ("awsRoleArn", "arn:aws:iam::123456789012:role/x y"),
        ("awsRoleArn", "arn:aws-cn:iam::123456789012:role/bedrock"),
    ],
)
def test_security_04_what_enters_a_request_is_checked(field: str, value: str) -> None:
    """Region, role and tenant follow their patterns, and the role is of the region's partition."""
    manifest = aws()
    block = manifest["spec"]["awsCredentials"]
    (block if field in block else block["oidcExchangeToken"])[field] = value
    found = read_policy(manifest, "policy.yaml", Defaults())
    assert isinstance(found, InvalidPolicy)
    assert field in found.problems[0].path


CLAIMS = "credrotator.core.claims"


def test_security_05_claims_authorise_nothing() -> None:
    """JWTs are decoded in one module, and those that use it show claims, read times, or refuse; no key is loaded."""
    users = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if CLAIMS in imports(path)}
    assert {user for user in users if not user.startswith("providers/")} == {
        "diagnosis/preflight.py",
        "exchange/grants.py",
        "exchange/issuers/token_response.py",
        "exchange/token_files.py",
        "exchange/credential_checks.py",
        "kube/account_tokens.py",
    }
    verifying = {"joserfc", "authlib.jose", "jwt"}
    ours = [path for path in PACKAGE.rglob("*.py") if "sandbox" not in path.parts]
    # A client's own key signs there; nothing is verified.
    assert [path.stem for path in ours if imports(path) & verifying] == ["signing"]


def imports(path: Path) -> set[str]:
    """Name the modules that a module imports."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}


def test_security_06_rights_are_verbs_without_wildcards() -> None:
    """The chart's roles name groups, resources and verbs; a star is in none of them."""
    rules = (CHART / "templates" / "_rules.tpl").read_text(encoding="utf-8")
    lines = [line for line in rules.splitlines() if re.match(r"\s*-? ?(apiGroups|resources|verbs):", line)]
    assert len(lines) > 20
    assert not [line for line in lines if "*" in line]


def test_security_07_files_are_their_owners_alone(tmp_path: Path) -> None:
    """Files have mode 0600, directories 0700; a planted link is not followed."""
    store = DirectoryStore(tmp_path / "out", lambda: NOW)
    store.publish(render(SECRET, aws_credential(), "f"), None)
    found = [path for path in (tmp_path / "out").rglob("*") if not path.is_symlink()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    (tmp_path / "planted").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "planted" / SECRET.namespace).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Denied, match="symlink"):
        DirectoryStore(tmp_path / "planted", lambda: NOW).publish(render(SECRET, aws_credential(), "f"), None)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_security_08_the_pod_is_hardened() -> None:
    """By default: not root, nothing to gain, nothing to write to, no capability, the runtime's seccomp profile."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    pod, container = values["podSecurityContext"], values["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}


def test_security_09_one_audit_line_for_each_publication(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says which policy, why, old and new expiry, a hash and the vendor's request id, and holds no secret."""
    issued = aws_credential(datetime.now(UTC).replace(microsecond=0))

    def exchange(
        policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        return issued

    store = DirectoryStore(tmp_path, lambda: issued.issued_at)
    rotation = Rotation(store, ExchangeBy(exchange), lambda: issued.issued_at, audit=Audit())
    with caplog.at_level(logging.INFO, "credrotator"):
        rotation(reading(aws()), lambda _: Sensitive("x"), RotateOptions())
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("published")]
    for part in (
        "team-a/ai-eg-bsp-bedrock",
        "team-a/bedrock",
        "Missing",
        "none ->",
        show_time(issued.expires_at),
        "content",
    ):
        assert part in line
    assert issued.secret_access_key.reveal() not in line
    assert issued.access_key_id not in line


def test_security_10_answers_have_a_size() -> None:
    """At most a mebibyte is read of any answer, whoever sends it; faults 11 and 12 show it on the wire."""
    assert BODY_LIMIT == 1024 * 1024
