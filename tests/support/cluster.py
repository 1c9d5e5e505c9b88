"""The program over a simulated API server and a sandbox: daemons as processes, and commands beside them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
)
from tests.support.builders import AWS
from tests.support.manifests import POLICIES, manifest, secret, values
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.sandbox import Sandbox
    from tests.support.kube.simulator import ApiServer

CLIENT, APP = "oidc-client", "entra"
"""Names of the client Secrets at the issuer and at Entra."""
OTHER_ROLE = "arn:aws:iam::123456789012:role/other"
SECRET = "ai-eg-bsp-aws"
PROGRAM = (sys.executable, "-m", "credrotator")
ASKED = {"leases", "selfsubjectaccessreviews"}
"""What changes nothing that a policy has to do with."""
TURNS = 10
WRITES = {"create", "update", "patch", "delete"}


class Cluster:
    """A simulated cluster with the client Secrets, the sandbox, and what runs against them."""

    def __init__(self, server: ApiServer, sandbox: Sandbox, directory: Path) -> None:
        self.server, self.sandbox = server, sandbox
        self.daemons: list[Daemon] = []
        self.kubeconfig = server.kubeconfig(directory / "kubeconfig")
        self.issuer = sandbox.issuer.url
        server.create("secrets", secret(CLIENT, client_secret=DEFAULT_CLIENT_SECRET))
        server.create("secrets", secret(APP, client_secret=DEFAULT_APP_SECRET))

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.sandbox.environment()}

    def aws(self, name: str = "aws", *, issuer: str = "", managed: bool = False, **labels: str) -> None:
        """Create a policy that is rotated at AWS."""
        role = {"awsRoleArn": DEFAULT_ROLE, **self._exchange("sts.amazonaws.com", issuer)}
        block = {"region": "us-east-1", "oidcExchangeToken": role}
        annotations = {AWS: json.dumps(block)} if managed else {}
        if managed:
            block = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": name}}}
        spec = {"type": "AWSCredentials", "awsCredentials": block}
        self.server.create(POLICIES, manifest(name, spec, labels=labels, annotations=annotations))

    def azure(self, name: str = "azure", *, secret: bool = False, namespace: str = "default") -> None:
        """Create a policy that gets Entra's tokens, by the issuer's token or by a client secret."""
        proof = {"oidcExchangeToken": self._exchange("api://AzureADTokenExchange")}
        block: dict[str, Any] = {"clientID": DEFAULT_APP, "tenantID": DEFAULT_TENANT}
        block |= {"clientSecretRef": {"name": APP}} if secret else proof
        spec = {"type": "AzureCredentials", "azureCredentials": block}
        self.server.create(POLICIES, manifest(name, spec, namespace=namespace))

    def gcp(self, name: str = "gcp", *, key: bool = False) -> None:
        """Create a policy that gets Google Cloud's tokens, by workload identity or by a key file."""
        block: dict[str, Any] = {"projectName": "sandbox-project", "region": "us-central1"}
        if key:
            self.server.create("secrets", self.key_file(name))
            block["credentialsFile"] = {"secretRef": {"name": name}}
        else:
            block["workloadIdentityFederationConfig"] = {
                "projectID": "123456789012",
                "workloadIdentityPoolName": "gateway",
                "workloadIdentityProviderName": "idp",
                "oidcExchangeToken": self._exchange(f"https:{DEFAULT_POOL}"),
                "serviceAccountImpersonation": {"serviceAccountName": "vertex"},
            }
        self.server.create(POLICIES, manifest(name, {"type": "GCPCredentials", "gcpCredentials": block}))

    def by_service_account(self, name: str, account: str = "bedrock") -> None:
        """Create a managed policy of AWS whose subject is a service account; the sandbox's issuer signs for it."""
        issuer, tokens = self.sandbox.issuer, self.server.account_tokens
        tokens.issuer = issuer.url
        # The sandbox's role trusts one subject of this issuer.
        tokens.sign = lambda claims: issuer.keys.sign({**claims, "sub": DEFAULT_CLIENT})
        block = {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": DEFAULT_ROLE}}
        notes = {AWS: json.dumps(block), "credrotator.io/service-account": account}
        carrier = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": name}}}
        spec = {"type": "AWSCredentials", "awsCredentials": carrier}
        self.server.create(POLICIES, manifest(name, spec, annotations=notes))

    def by_token_file(self, name: str, source: str) -> None:
        """Create a managed policy of AWS whose token lies in a file of the operator's."""
        block = {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com"}}
        notes = {AWS: json.dumps(block), "credrotator.io/token-source": source}
        carrier = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": name}}}
        spec = {"type": "AWSCredentials", "awsCredentials": carrier}
        self.server.create(POLICIES, manifest(name, spec, annotations=notes))

    def key_file(self, name: str) -> dict[str, Any]:
        """Make a Secret with a new key of the service account."""
        content = self.sandbox.google.accounts[DEFAULT_ACCOUNT].new_key(DEFAULT_ACCOUNT)
        encoded = base64.b64encode(content.encode()).decode()
        return {"metadata": {"name": name, "namespace": "default"}, "data": {"service_account.json": encoded}}

    def _exchange(self, audience: str, issuer: str = "") -> dict[str, Any]:
        client = {"clientID": DEFAULT_CLIENT, "clientSecret": {"name": CLIENT}}
        return {"aud": audience, "oidc": {"provider": {"issuer": issuer or self.issuer}, **client}}

    @contextlib.contextmanager
    def daemon(self, *options: str, ready: bool = True) -> Iterator[Daemon]:
        """Run a daemon until the block ends."""
        command = [*PROGRAM, "run", "--kubeconfig", str(self.kubeconfig), "--listen", "127.0.0.1:0", *options]
        process = subprocess.Popen(
            command, env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        running = Daemon(process)
        self.daemons.append(running)
        try:
            if ready:
                eventually(running.is_ready, 2 * LIMIT_S)
            yield running
        finally:
            self.daemons.remove(running)
            process.kill()
            process.wait()
            running.reader.join(LIMIT_S)
            assert process.stderr
            process.stderr.close()

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command that looks once; return what it printed."""
        ended = subprocess.run(
            [*PROGRAM, *arguments, "--kubeconfig", str(self.kubeconfig)],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * LIMIT_S,
        )
        assert ended.returncode == code, ended.stderr + ended.stdout
        return ended.stdout

    def key_id(self, name: str = "aws") -> str:
        """The access key that is published for a policy; empty if there is none."""
        secret_name = name if name == "managed" else f"ai-eg-bsp-{name}"
        found = values(self.server, secret_name) or {}
        match = re.search(r"aws_access_key_id = (\w+)", found.get("credentials", ""))
        return match[1] if match else ""

    def new_key(self, old: str = "", name: str = "aws", within_s: float = LIMIT_S) -> str:
        """Wait until another access key than ``old`` is published; return it."""
        eventually(lambda: self.key_id(name) not in {"", old}, within_s)
        return self.key_id(name)

    def exchanges(self) -> int:
        """How often STS was asked for credentials."""
        return len(self.sandbox.sts.requests)

    def written(self) -> list[str]:
        """Verbs and resources of all writes so far but the Lease's."""
        return [
            f"{request.verb} {request.resource}/{request.name or (request.body or {}).get('metadata', {}).get('name')}"
            for request in list(self.server.requests)
            if request.verb in WRITES and request.resource not in ASKED and 200 <= request.status < 300
            if "dryRun" not in request.query
        ]

    def settled(self, quiet_s: float = 0.5) -> None:
        """Wait until nobody was asked for anything for a while, in which the daemons had their turns."""
        seen, since, turns = self._traffic(), time.monotonic(), 0
        deadline = since + LIMIT_S
        while time.monotonic() - since < quiet_s or turns < TURNS:
            time.sleep(0.02)
            # On a busy machine nothing happens for a while because nobody comes to it: an answer is a turn.
            idle = all(daemon.is_idle() for daemon in self.daemons if daemon.process.poll() is None)
            turns += 1
            if not idle or self._traffic() != seen:
                seen, since, turns = self._traffic(), time.monotonic(), 0
            assert time.monotonic() < deadline, "it never came to rest"

    def _traffic(self) -> int:
        """How much was asked of anybody, but for the Lease and for new watches."""
        services = (self.sandbox.issuer, *self.sandbox.vendors)
        asked = [request for request in list(self.server.requests) if request.resource != "leases"]
        return sum(service.requests.total for service in services) + sum(each.verb != "watch" for each in asked)

    def holder(self) -> str:
        """Who holds the Lease."""
        lease = self.server.get("leases", "credrotator")
        return str(lease["spec"]["holderIdentity"]) if lease else ""

    def events(self) -> list[tuple[str, str]]:
        """Reason and policy of all Events, each as often as it was counted."""
        return [
            (event["reason"], event["involvedObject"]["name"])
            for event in self.server.items("events")
            for _ in range(event["count"])
        ]


class Daemon:
    """A daemon as a process, what it logged so far, and its port."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(self.process.stderr)

    @property
    def log(self) -> str:
        return "".join(list(self.lines))

    def get(self, path: str) -> tuple[int, str]:
        """Ask its port; 0 while there is none."""
        match = re.search(r"listening on \S+:(\d+)", self.log)
        assert self.process.poll() is None, self.log
        if not match:
            return 0, ""
        connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=LIMIT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_idle(self) -> bool:
        """Tell whether no policy waits for a worker; one that does not listen has nothing to do yet."""
        return not self.metric("queue_depth")

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def metric(self, name: str, /, **labels: str) -> float | None:
        """Return the sum of a metric's samples with these labels; None where there are none."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        found = [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"credrotator_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def leads(self) -> bool:
        return self.metric("leader") == 1

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit code and how long it took."""
        began_s = time.monotonic()
        self.process.send_signal(how)
        code = self.process.wait(2 * LIMIT_S)
        return code, time.monotonic() - began_s


def patch_role(server: ApiServer, name: str, role: str) -> dict[str, Any]:
    """Edit a policy's role."""
    block = {"awsCredentials": {"oidcExchangeToken": {"awsRoleArn": role}}}
    return server.patch(POLICIES, name, {"spec": block})
