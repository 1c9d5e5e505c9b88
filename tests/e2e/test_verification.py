"""The suite's own judge: what is wrong must be found wrong, or the other tests show nothing."""

import pytest

from tests.e2e import policies
from tests.e2e.chain import AWS, FEDERATED, SECRET, Backend, StartChain
from tests.e2e.command import Credrotator


def _garbled(text: str) -> str:
    """Change one character in the middle, where base64 leaves no bit unused."""
    middle = len(text) // 2
    return text[:middle] + ("a" if text[middle] != "a" else "b") + text[middle + 1 :]


def _replace_in_filter(credrotator: Credrotator, right: str, wrong: str) -> None:
    configuration = credrotator.filter_file.read_text()
    assert configuration.count(right) == 1
    credrotator.filter_file.write_text(configuration.replace(right, wrong))


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("secret", "signature mismatch"),
        ("session_token", "wrong session token"),
        ("key_id", "unknown key"),
    ],
)
def test_a_wrong_credential_in_the_filter_is_caught(
    credrotator: Credrotator, issuer: str, start_chain: StartChain, part: str, fault: str
) -> None:
    """A request is refused when any part of the credential is not the one that was published."""
    policies.write(credrotator.manifests, policies.aws(AWS.name, issuer))
    credrotator.rotate_for_filter()
    right: str = getattr(credrotator.published.aws(AWS.name), part)
    _replace_in_filter(credrotator, right, _garbled(right))

    with start_chain(credrotator) as chain:
        assert chain.ask(AWS) == 403
        assert chain.journal.faults() == [fault]


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
