"""The whole of it on one machine: sandbox up, examples rotated, each credential proven, rotated again, sandbox down."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import requests
from botocore.config import Config

from credrotator.sandbox import PortTaken, Sandbox, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.sandbox.recording import RecordedRequest

EXAMPLES = Path(__file__).parent
WRITTEN_FOR = {"https://localhost:9443": "issuer", "https://localhost:9449": "exchange"}
"""Addresses in the manifests, and the server of the sandbox that each stands for."""


def main() -> None:
    """Run the demonstration in a temporary directory; exit code 1 as soon as something is not as it should be."""
    with tempfile.TemporaryDirectory(prefix="credrotator-demo-") as temporary:
        place = Path(temporary)
        with ExitStack() as running:
            say("Starting the sandbox: an OIDC issuer, AWS STS, Entra, Google Cloud, model vendors, all local.")
            sandbox = start_sandbox(place / "sandbox", running)
            policies = fit_examples(place / "policies", sandbox)
            out = place / "credentials"
            add_key_file(policies, sandbox)
            say(f"An issuer at {sandbox.issuer.url}, an STS at {sandbox.sts.url},")
            print(f"Entra at {sandbox.entra.url}, Google Cloud at {sandbox.google.url},", flush=True)
            print(f"Anthropic at {sandbox.anthropic.url}, OpenAI at {sandbox.openai.url},", flush=True)
            print(f"and a token exchange at {sandbox.exchange.url}.", flush=True)
            say("$ credrotator rotate -f examples/ --out credentials/")
            rotate(policies, out, sandbox)
            say("Each credential, shown to the service that issued it:")
            prove(out, sandbox)
            say("$ credrotator rotate -f examples/ --out credentials/   # once more: all is fresh, nobody is asked")
            asked = count_requests(sandbox)
            rotate(policies, out, sandbox)
            expect(count_requests(sandbox) == asked, "the second run asked nobody")
            say("$ credrotator status -f examples/ --out credentials/")
            run(["status", "-f", str(policies), "--out", str(out)], sandbox)
            verify(policies, out, sandbox)
    say("The sandbox is stopped. That was all; the README says what to do next.")


def start_sandbox(directory: Path, running: ExitStack) -> Sandbox:
    """Start on the ports that the examples name, or on free ones where those are taken."""
    servers = ("issuer", "sts", "entra", "google", "anthropic", "openai", "exchange")
    ports = {f"{server}_port": port for port, server in enumerate(servers, 9443)}
    try:
        return running.enter_context(Sandbox(directory, **ports))
    except PortTaken:
        return running.enter_context(Sandbox(directory))


def fit_examples(directory: Path, sandbox: Sandbox) -> Path:
    """Copy the manifests, with the sandbox's own addresses in them."""
    directory.mkdir()
    for manifest in EXAMPLES.glob("*.yaml"):
        text = manifest.read_text(encoding="utf-8")
        for address, server in WRITTEN_FOR.items():
            text = text.replace(address, getattr(sandbox, server).url)
        (directory / manifest.name).write_text(text, encoding="utf-8")
    return directory


def add_key_file(policies: Path, sandbox: Sandbox) -> None:
    """Add a policy with a service account's key file, which no repository should hold: the sandbox makes one."""
    spec = {
        "type": "GCPCredentials",
        "gcpCredentials": {
            "projectName": "sandbox-project",
            "region": "us-central1",
            "credentialsFile": {"secretRef": {"name": "vertex-key"}},
        },
    }
    policy = manifest("aigateway.envoyproxy.io/v1beta1", "BackendSecurityPolicy", "gcp-vertex-key", spec=spec)
    content = {"service_account.json": sandbox.write_key_file().read_text(encoding="utf-8")}
    secret = manifest("v1", "Secret", "vertex-key", stringData=content)
    (policies / "gcp-vertex-key.json").write_text(json.dumps(policy), encoding="utf-8")
    (policies / "gcp-vertex-key-secret.json").write_text(json.dumps(secret), encoding="utf-8")


def manifest(version: str, kind: str, name: str, **content: object) -> dict[str, object]:
    """Return an object of namespace default."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, **content}


def rotate(policies: Path, out: Path, sandbox: Sandbox, *more: str, code: int = 0) -> None:
    """Run ``credrotator rotate`` as a person would."""
    run(["rotate", "-f", str(policies), "--out", str(out), *more], sandbox, code)


def verify(policies: Path, out: Path, sandbox: Sandbox) -> None:
    """Have new credentials shown to their vendors before they are published: all good, then one that is refused."""
    say("$ credrotator rotate -f examples/ --out credentials/ --force --verify-credentials")
    rotate(policies, out, sandbox, "--force", "--verify-credentials")
    say("One more for AWS, while STS takes none of the sessions that it gave: the old credential stays.")
    before = {file: file.read_text(encoding="utf-8") for file in out.glob("*/*/credentials")}
    refused = sandbox.sts.faults.add(ServiceError("ExpiredToken"), when=asks_whose_it_is)
    with refused:
        rotate(policies, out, sandbox, "default/aws-bedrock", "--force", "--verify-credentials", code=1)
    expect(all(file.read_text(encoding="utf-8") == text for file, text in before.items()), "nothing was published")


def asks_whose_it_is(request: RecordedRequest) -> bool:
    """Tell whether STS is asked whose a session is."""
    return request.form.get("Action") == "GetCallerIdentity"


def run(arguments: list[str], sandbox: Sandbox, code: int = 0) -> None:
    """Run one command of credrotator against the sandbox; its own output is the demonstration."""
    environment = {**os.environ, **sandbox.environment()}
    done = subprocess.run([sys.executable, "-m", "credrotator", *arguments], env=environment, check=False)  # noqa: S603
    expect(done.returncode == code, f"credrotator {arguments[0]} ended with {done.returncode}")


def prove(out: Path, sandbox: Sandbox) -> None:
    """Use every published credential: AWS keys sign a call to STS, tokens open a page of whoever issued them."""
    for file in sorted(out.glob("*/*/credentials")):
        print(f"  {file.relative_to(out)}: {who_am_i_at_aws(file, sandbox)}")
    for file in sorted(out.glob("*/*/azureAccessToken")):
        claims = who_am_i(file, sandbox.entra.url, sandbox)
        print(f"  {file.relative_to(out)}: application {claims['appid']} for {claims['aud']}")
    for file in sorted(out.glob("*/*/gcpAccessToken")):
        print(f"  {file.relative_to(out)}: {who_am_i(file, sandbox.google.url, sandbox)['principal']}")
    prove_model_vendors(out, sandbox)


def prove_model_vendors(out: Path, sandbox: Sandbox) -> None:
    """Say hello to each vendor's API with its token, as the gateway would."""
    chat = {"model": "demo", "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
    versions = {"anthropic-version": "2023-06-01", "anthropic-beta": "oauth-2025-04-20"}
    file = out / "default" / "anthropic-token" / "apiKey"
    message = ask(file, f"{sandbox.anthropic.url}/v1/messages", sandbox, json=chat, headers=versions)
    print(f"  {file.relative_to(out)}: {message['content'][0]['text']}")
    file = out / "default" / "openai-token" / "apiKey"
    completion = ask(file, f"{sandbox.openai.url}/v1/chat/completions", sandbox, json=chat)
    print(f"  {file.relative_to(out)}: {completion['choices'][0]['message']['content']}")
    file = out / "default" / "bedrock-key-token" / "apiKey"
    chat = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    answer = ask(file, f"{sandbox.sts.url}/model/demo/converse", sandbox, json=chat)
    print(f"  {file.relative_to(out)}: {answer['output']['message']['content'][0]['text']}")
    for name in ("own-gateway-token", "tools-token"):
        file = out / "default" / name / "apiKey"
        print(f"  {file.relative_to(out)}: {who_am_i(file, sandbox.exchange.url, sandbox)['principal']}")


def who_am_i_at_aws(file: Path, sandbox: Sandbox) -> str:
    """Sign GetCallerIdentity with a credentials file; the sandbox recomputes the signature."""
    profile = configparser.RawConfigParser()
    profile.read_string(file.read_text(encoding="utf-8"))
    keys = dict(profile["default"])
    client = boto3.client(
        "sts",
        endpoint_url=sandbox.sts.url,
        verify=str(sandbox.ca_file),
        config=Config(proxies={}),
        region_name=keys["region"],
        aws_access_key_id=keys["aws_access_key_id"],
        aws_secret_access_key=keys["aws_secret_access_key"],
        aws_session_token=keys["aws_session_token"],
    )
    return client.get_caller_identity()["Arn"]


def who_am_i(file: Path, url: str, sandbox: Sandbox) -> dict[str, str]:
    """Present a token; the sandbox verifies that it issued it, and that it has not expired."""
    return ask(file, f"{url}/sandbox/whoami", sandbox)


def ask(
    file: Path, url: str, sandbox: Sandbox, *, json: object = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Send a request with a token, a POST where it has a body; a refusal ends the demonstration."""
    bearer = {"Authorization": f"Bearer {file.read_text(encoding='utf-8')}"}
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(
            "GET" if json is None else "POST",
            url,
            json=json,
            headers={**bearer, **(headers or {})},
            verify=str(sandbox.ca_file),
            timeout=5,
        )
    expect(answer.ok, f"{url} refused {file}: {answer.status_code}")
    content: dict[str, Any] = answer.json()
    return content


def count_requests(sandbox: Sandbox) -> int:
    """Count what all servers were asked so far."""
    return sum(len(list(server.requests)) for server in (sandbox.issuer, *sandbox.vendors))


def expect(holds: bool, what: str) -> None:  # noqa: FBT001
    """End the demonstration where it does not show what it should."""
    if not holds:
        sys.exit(f"the demonstration failed: {what}")


def say(text: str) -> None:
    """Print a line between the outputs of the commands, in order with them."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
