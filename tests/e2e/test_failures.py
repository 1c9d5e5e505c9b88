"""Refusals by the real parts: classed by what to do next, and without harm to what is published."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import minio, policies, realms
from tests.e2e.command import Credrotator
from tests.support.parts.cache import Cache


def _contents(directory: Path) -> dict[str, bytes]:
    """Return every published file with its bytes."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def rotated(credrotator: Credrotator, issuer: str) -> Credrotator:
    """A credrotator that has published one AWS and one Azure credential."""
    policies.write(credrotator.manifests, policies.aws("aws", issuer), policies.azure_secret("azure"))
    assert credrotator.rotate().exit_code == 0
    return credrotator


@pytest.fixture
def strict_sts(parts: Cache, issuer: str, tmp_path: Path) -> Iterator[minio.MinIO]:
    """An STS that has one role for the issuer's tokens and knows no other."""
    trust = minio.Trust(f"{issuer}/.well-known/openid-configuration", realms.AWS_AUDIENCE, role_policy="readwrite")
    with minio.serving(minio.executable(parts), trust, directory=tmp_path / "strict") as server:
        yield server


def test_a_wrong_client_secret_is_denied(rotated: Credrotator, issuer: str) -> None:
    """Issuer and tenant refuse the client; both policies fail as denied and keep their last good Secret."""
    before = _contents(rotated.published.secrets)
    policies.write(
        rotated.manifests,
        policies.aws("aws", issuer, secret="wrong"),
        policies.azure_secret("azure", secret="wrong"),
    )
    outcome = rotated.rotate("--force")

    assert outcome.exit_code == 1
    assert outcome.document["summary"]["failed"] == 2
    for policy in ("aws", "azure"):
        error = outcome.error(policy)
        assert error["kind"] == "denied", error
        assert error["hint"]
    # Keycloak says `unauthorized_client` here, which by its name is another fault with another remedy.
    assert outcome.error("aws")["reason"] == "InvalidClient"
    assert "default/aws-client" in outcome.error("aws")["hint"]
    assert _contents(rotated.published.secrets) == before


def test_a_wrong_audience_is_denied(rotated: Credrotator, issuer: str) -> None:
    """A token for somebody else is refused by the STS; the other policy is rotated all the same."""
    before = rotated.published.aws("aws")
    token = rotated.published.token("azure")
    policies.write(
        rotated.manifests,
        policies.aws("aws", issuer, client=realms.STRANGER),
        policies.azure_secret("azure"),
    )
    outcome = rotated.rotate("--force")

    assert outcome.exit_code == 1
    assert outcome.error("aws")["kind"] == "denied", outcome.document
    assert rotated.published.aws("aws") == before
    assert outcome.result("azure")["action"] == "rotated"
    assert rotated.published.token("azure") != token


def test_a_wrong_role_is_denied(rotated: Credrotator, strict_sts: minio.MinIO) -> None:
    """An STS that does not know the role refuses, and the credential published before stays."""
    before = _contents(rotated.published.secrets)
    elsewhere = Credrotator(
        rotated.directory, {**rotated.environment, "AWS_ENDPOINT_URL_STS": strict_sts.url}, rotated.options
    )
    outcome = elsewhere.rotate("default/aws", "--force")

    assert outcome.exit_code == 1
    assert outcome.error("aws")["kind"] == "denied", outcome.document
    assert _contents(rotated.published.secrets) == before


def test_an_assertion_of_another_subject_is_denied(credrotator: Credrotator, issuer: str) -> None:
    """The tenant refuses the token of a client that the app's federated credential does not name."""
    policies.write(credrotator.manifests, policies.azure_federated("azure", issuer, client=realms.STRANGER))
    outcome = credrotator.rotate()

    assert outcome.exit_code == 1
    assert outcome.error("azure")["kind"] == "denied", outcome.document
    assert not credrotator.published.file("azure", "azureAccessToken").exists()
