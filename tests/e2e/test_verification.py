"""The suite's own judge: what is wrong must be found wrong, or the other tests show nothing."""

import pytest

from tests.e2e import policies
from tests.e2e.chain import AWS, FEDERATED, SECRET, Backend
from tests.e2e.command import Credrotator
from tests.e2e.conftest import StartChain


def _garbled(text: str) -> str:
    """Change one character in the middle, where base64 leaves no bit unused."""
    middle = len(text) // 2
    return text[:middle] + ("a" if text[middle] != "a" else "b") + text[middle + 1 :]


def _replace_in_filter(credrotator: Credrotator, right: str, wrong: str) -> None:
    configuration = credrotator.filter_file.read_text()
    assert configuration.count(right) == 1
    credrotator.filter_file.write_text(configuration.replace(right, wrong))


def test_a_wrong_secret_in_the_filter_is_caught(credrotator: Credrotator, issuer: str, start_chain: StartChain) -> None:
    """A signature made with another secret under the right key id is refused as a mismatch."""
    policies.write(credrotator.manifests, policies.aws(AWS.name, issuer))
    credrotator.rotate_for_filter()
    secret = credrotator.published.aws(AWS.name).secret
    _replace_in_filter(credrotator, secret, _garbled(secret))

    with start_chain(credrotator) as chain:
        assert chain.ask(AWS) == 403
        assert chain.journal.faults() == ["signature mismatch"]


@pytest.mark.parametrize("backend", [FEDERATED, SECRET], ids=lambda backend: backend.name)
def test_a_tampered_token_is_caught(
    credrotator: Credrotator, issuer: str, start_chain: StartChain, backend: Backend
) -> None:
    """A token whose claims are not the ones that the tenant signed is refused."""
    policies.write(
        credrotator.manifests,
        policies.azure_federated(FEDERATED.name, issuer),
        policies.azure_secret(SECRET.name),
    )
    credrotator.rotate_for_filter()
    token = credrotator.published.token(backend.name)
    header, claims, signature = token.split(".")
    _replace_in_filter(credrotator, token, f"{header}.{_garbled(claims)}.{signature}")

    with start_chain(credrotator) as chain:
        assert chain.ask(backend) == 403
        assert chain.journal.faults() == ["invalid token: BadSignatureError"]
