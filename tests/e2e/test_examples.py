"""The examples of the repository, against an issuer, an STS and an Entra that are not the sandbox.

There is no Google Cloud and no model vendor but the sandbox's, so their examples stay out.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import realms
from tests.e2e.command import Credrotator
from tests.e2e.entra import Entra
from tests.e2e.minio import MinIO

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SANDBOX_ISSUER = "https://localhost:9443"
_OF_THE_SANDBOX = (
    "gcp-*",
    "anthropic.yaml",
    "openai.yaml",
    "bedrock-*",
    "token-exchange.yaml",
    "client-credentials.yaml",
)


def _for_real_parts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Give a policy the client that Keycloak has for it, where the sandbox has one client for all."""
    azure = manifest.get("spec", {}).get("azureCredentials", {})
    if "clientSecretRef" in azure:
        azure["clientID"] = realms.SECRET_APP
    elif "oidcExchangeToken" in azure:
        azure["oidcExchangeToken"]["oidc"]["clientID"] = realms.ENTRA_CLIENT
    return manifest


@pytest.fixture
def examples(tmp_path: Path, issuer: str) -> Path:
    """A copy of the examples with the issuer, and the clients, of Keycloak."""
    copy = tmp_path / "examples"
    shutil.copytree(_EXAMPLES, copy, ignore=shutil.ignore_patterns(*_OF_THE_SANDBOX))
    for path in copy.rglob("*.yaml"):
        text = path.read_text().replace(_SANDBOX_ISSUER, issuer)
        path.write_text(yaml.safe_dump_all([_for_real_parts(one) for one in yaml.safe_load_all(text) if one]))
    return copy


def test_the_examples_rotate(credrotator: Credrotator, examples: Path, sts: MinIO, tenant: Entra) -> None:
    """Every example is rotated or needs no rotation, and what is published is accepted where it was issued."""
    outcome = credrotator.rotate(source=examples)
    assert outcome.exit_code == 0, outcome
    results = outcome.document["results"]
    summary = outcome.document["summary"]
    assert summary["failed"] == 0
    assert summary["rotated"] == len([one for one in results if one["action"] == "rotated"])

    credentials, tokens = credrotator.published.all_aws(), credrotator.published.all_tokens()
    assert summary["rotated"] == len(credentials) + len(tokens)
    assert credentials
    assert tokens
    for credential in credentials:
        sts.list_buckets(credential)
    for token in tokens:
        assert tenant.accept(token)


def test_what_is_fresh_is_kept(credrotator: Credrotator, examples: Path) -> None:
    """A second pass over the same directory asks nobody and changes nothing."""
    first = credrotator.rotate(source=examples).document["summary"]
    assert first["rotated"] > 0
    second = credrotator.rotate(source=examples).document["summary"]
    assert (second["rotated"], second["kept"], second["failed"]) == (0, first["rotated"], 0)
