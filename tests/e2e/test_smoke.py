"""One policy through the whole real chain."""

import pytest

from tests.e2e import policies
from tests.e2e.chain import AWS, StartChain
from tests.e2e.command import Credrotator


@pytest.mark.smoke
def test_a_request_is_signed_with_the_credential_of_its_policy(
    credrotator: Credrotator, issuer: str, start_chain: StartChain
) -> None:
    """Keycloak's token becomes MinIO's credential, and what the gateway signs with it is valid upstream."""
    policies.write(credrotator.manifests, policies.aws(AWS.name, issuer))
    result = credrotator.rotate_for_filter().result(AWS.name)
    assert (result["provider"], result["action"], result["reason"]) == ("aws-oidc", "rotated", "Missing")

    with start_chain(credrotator) as chain:
        assert chain.ask(AWS) == 200
        (entry,) = chain.journal.entries()
    assert entry.verdict.fault is None
    assert entry.verdict.credential == credrotator.published.aws(AWS.name).key_id
