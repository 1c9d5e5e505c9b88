"""The command line in this process and in others, with manifests that fit a sandbox.

Every JSON that ``rotate`` prints is held to the published schema on the way.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from credrotator.cli.main import main
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    Sandbox,
)
from tests.support.logging_state import kept_logging
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs" / "rotate.schema.json").read_text()))
PROGRAM = (sys.executable, "-m", "credrotator")


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON on standard output, which is all that is there."""
        document: dict[str, Any] = json.loads(self.out)
        SCHEMA.validate(document)
        return document

    @property
    def actions(self) -> dict[str, str]:
        """Policy → action, from the JSON."""
        return {result["policy"]: result["action"] for result in self.document["results"]}

    def result(self, policy: str) -> dict[str, Any]:
        """One policy's result, from the JSON."""
        (found,) = [result for result in self.document["results"] if result["policy"] == policy]
        return dict(found)


def asked(sandbox: Sandbox) -> int:
    """Return how many requests the sandbox has answered so far."""
    return sum(service.requests.total for service in (sandbox.issuer, *sandbox.vendors))


class Backend:
    """A directory with manifests, a directory for credentials, and the command line."""

    def __init__(self, directory: Path, issuer: str) -> None:
        directory.chmod(0o700)
        self.directory = directory
        self.issuer = issuer
        self.manifests = directory / "policies"
        self.out = directory / "out"
        self.manifests.mkdir()
        self.write("secrets", secret("oidc-client", DEFAULT_CLIENT_SECRET), secret("entra-client", DEFAULT_APP_SECRET))

    def write(self, name: str, *manifests: dict[str, Any]) -> Path:
        """Write manifests into one file."""
        path = self.manifests / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(manifests))
        return path

    def aws(self, name: str = "bedrock", namespace: str = "default", role: str = DEFAULT_ROLE) -> None:
        """Add a policy for AWS."""
        exchange = {**self._exchange("sts.amazonaws.com"), "awsRoleArn": role}
        credentials = {"region": "us-east-1", "oidcExchangeToken": exchange}
        self.write(f"{namespace}-{name}", policy(name, namespace, "AWSCredentials", awsCredentials=credentials))

    def azure(self, name: str = "openai", namespace: str = "default") -> None:
        """Add a policy for Azure by the issuer's token."""
        exchange = self._exchange("api://AzureADTokenExchange")
        credentials = {"tenantID": DEFAULT_TENANT, "clientID": DEFAULT_APP, "oidcExchangeToken": exchange}
        self.write(f"{namespace}-{name}", policy(name, namespace, "AzureCredentials", azureCredentials=credentials))

    def azure_secret(self, name: str = "openai-secret", namespace: str = "default") -> None:
        """Add a policy for Azure by a client secret."""
        credentials = {"tenantID": DEFAULT_TENANT, "clientID": DEFAULT_APP, "clientSecretRef": {"name": "entra-client"}}
        self.write(f"{namespace}-{name}", policy(name, namespace, "AzureCredentials", azureCredentials=credentials))

    def gcp(self, name: str = "vertex", namespace: str = "default") -> None:
        """Add a policy for Google Cloud by workload identity."""
        federation: dict[str, Any] = {
            "projectID": "123456789012",
            "workloadIdentityPoolName": "gateway",
            "workloadIdentityProviderName": "idp",
            "oidcExchangeToken": self._exchange(f"https:{DEFAULT_POOL}"),
            "serviceAccountImpersonation": {"serviceAccountName": "vertex"},
        }
        block: dict[str, Any] = {"projectName": "sandbox-project", "region": "us-central1"}
        block |= {"workloadIdentityFederationConfig": federation}
        self.write(f"{namespace}-{name}", policy(name, namespace, "GCPCredentials", gcpCredentials=block))

    def gcp_key(self, sandbox: Sandbox, name: str = "vertex-key") -> None:
        """Add a policy for Google Cloud by a key file, with its Secret."""
        block: dict[str, Any] = {"projectName": "sandbox-project", "region": "us-central1"}
        block |= {"credentialsFile": {"secretRef": {"name": "vertex-key"}}}
        manifest = policy(name, "default", "GCPCredentials", gcpCredentials=block)
        content = sandbox.google.accounts[DEFAULT_ACCOUNT].new_key(DEFAULT_ACCOUNT)
        self.write(f"default-{name}", manifest, secret("vertex-key", content, "service_account.json"))

    def static(self, name: str = "static", key: str = "sk-static") -> None:
        """Add a static policy with its Secret."""
        manifest = policy(name, "default", "APIKey", apiKey={"secretRef": {"name": "static-key"}})
        self.write(f"default-{name}", manifest, secret("static-key", key, "apiKey"))

    def invalid(self, name: str = "broken") -> None:
        """Add a policy that cannot work as written."""
        self.write(f"default-{name}", policy(name, "default", "AWSCredentials", awsCredentials={"region": ""}))

    def _exchange(self, audience: str) -> dict[str, Any]:
        client = {"clientID": DEFAULT_CLIENT, "clientSecret": {"name": "oidc-client"}}
        return {"aud": audience, "oidc": {"provider": {"issuer": self.issuer}, **client}}

    def rotate(self, *arguments: str) -> Ran:
        """Run ``rotate`` over all manifests, in this process."""
        return run("rotate", "-f", str(self.manifests), "--out", str(self.out), *arguments)

    def command(self, *arguments: str) -> list[str]:
        """Return the same as a command line for another process."""
        return [*PROGRAM, "rotate", "-f", str(self.manifests), "--out", str(self.out), *arguments]

    def loudly(self, command: str, *arguments: str) -> Ran:
        """Run a command over all manifests with all that it has to say."""
        return run("-vv", command, "-f", str(self.manifests), "--out", str(self.out), *arguments)

    def secrets(self, sandbox: Sandbox) -> dict[str, str]:
        """Return everything that must not be seen: what the policies' clients know, and all that was issued to them."""
        found = {"client secret": DEFAULT_CLIENT_SECRET, "Entra's client secret": DEFAULT_APP_SECRET}
        for service in (sandbox.issuer, *sandbox.vendors):
            for number, request in enumerate(service.requests):
                for name in ("WebIdentityToken", "client_assertion", "client_secret", "subject_token", "assertion"):
                    if name in request.form:
                        found[f"{name} {service.name} {number}"] = request.form[name]
                if "Authorization" in request.headers:
                    found[f"header {service.name} {number}"] = request.headers["Authorization"].partition(" ")[2]
        for path in self.out.glob("default/*/*"):
            for number, line in enumerate(path.read_text().splitlines() if path.is_file() else ()):
                name, _, text = line.rpartition(" = ")
                if name not in {"", "region", "aws_access_key_id"} or path.name.endswith("AccessToken"):
                    found[f"{path} {number}"] = text
        return found

    def holds(self, policy_name: str, key: str) -> bool:
        """Tell whether a value is published."""
        return (self.out / "default" / f"ai-eg-bsp-{policy_name}" / key).exists()

    def value(self, policy_name: str = "bedrock", key: str = "credentials") -> str:
        """Read a published value as a consumer would."""
        return (self.out / "default" / f"ai-eg-bsp-{policy_name}" / key).read_text()


def policy(name: str, namespace: str, kind: str, **spec: Any) -> dict[str, Any]:
    """Return a BackendSecurityPolicy."""
    return {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": kind, **spec},
    }


def secret(name: str, value: str, key: str = "client-secret") -> dict[str, Any]:
    """Return a Secret."""
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}}


def run(*arguments: str, stdin: str = "") -> Ran:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        _process_wide_state(),
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["credrotator", *arguments])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _process_wide_state() -> Iterator[None]:
    """Put back what a command line sets for its whole process."""
    on_term, variables = signal.getsignal(signal.SIGTERM), dict(os.environ)
    try:
        with kept_logging():
            yield
    finally:
        signal.signal(signal.SIGTERM, on_term)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]


def run_outside(command: list[str], **variables: str) -> Ran:
    """Run a command in a process of its own."""
    ended = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=3 * LIMIT_S
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


def offered(line: str) -> list[str]:
    """Return what is offered for the last word of a line, with its kind: ``plain``, ``file`` or ``dir``."""
    words = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_CREDROTATOR_COMPLETE": "bash_complete"}
    return run_outside([*PROGRAM], **variables).out.split()
