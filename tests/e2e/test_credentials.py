"""Published credentials, shown to the very services that issued them."""

import json
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from tests.e2e import policies, realms
from tests.e2e.command import Credrotator
from tests.e2e.entra import Entra
from tests.e2e.minio import MinIO


def test_the_issuing_service_accepts_the_aws_credential(credrotator: Credrotator, issuer: str, sts: MinIO) -> None:
    """A call signed with what was published is accepted, and with another secret or session it is not."""
    policies.write(credrotator.manifests, policies.aws("aws", issuer))
    assert credrotator.rotate().exit_code == 0
    credential = credrotator.published.aws("aws")

    sts.list_buckets(credential)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        sts.list_buckets(replace(credential, secret=credential.secret[::-1]))
    with pytest.raises(ClientError, match="InvalidTokenId"):
        sts.list_buckets(replace(credential, session_token=credential.session_token[:-4]))


def test_no_output_shows_a_secret(credrotator: Credrotator, issuer: str) -> None:
    """Neither the result nor the log carries the bytes of a credential or of what it was bought with."""
    policies.write(
        credrotator.manifests, policies.aws("aws", issuer), policies.azure_secret("azure", secret="wrong-canary")
    )
    outcome = credrotator.rotate()
    assert (outcome.result("aws")["action"], outcome.result("azure")["action"]) == ("rotated", "failed")

    credential = credrotator.published.aws("aws")
    secrets = (credential.secret, credential.session_token, realms.CLIENT_SECRET, "wrong-canary")
    shown = json.dumps(outcome.document) + outcome.stderr
    assert [secret for secret in secrets if secret in shown] == []


def test_the_tenant_accepts_the_tokens(credrotator: Credrotator, issuer: str, tenant: Entra) -> None:
    """The token of a federated policy and of a client-secret policy are in force, and a cut one is not."""
    policies.write(
        credrotator.manifests, policies.azure_federated("federated", issuer), policies.azure_secret("secret")
    )
    assert credrotator.rotate().exit_code == 0

    for policy in ("federated", "secret"):
        token = credrotator.published.token(policy)
        assert tenant.accept(token)
        assert tenant.verifier().fault(token) is None
        assert not tenant.accept(token[:-4])
