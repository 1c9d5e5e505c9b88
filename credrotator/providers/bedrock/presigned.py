"""Short-term Bedrock API keys: a request that is signed in advance, as a bearer token.

Owns the making of keys, which asks nobody; the role's credential comes from STS, by the adapter for it. Equal byte for
byte to what AWS's own generator (PyPI ``aws-bedrock-token-generator``) makes at the same second, which a test says.
Source: Amazon Bedrock user guide, "API keys"; AWS "Signature Version 4", query form.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.auth import SIGV4_TIMESTAMP, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from credrotator.core.errors import Denied
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.grants import AccessToken
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.aws.sts import Sts
from credrotator.providers.bedrock.source import BedrockApiKey

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.model import Credential, Rotatable
    from credrotator.providers.aws.source import AwsCredential

# Without a region, as AWS's generator has it: the region is in the signature's scope, and the key is good there only.
HOST = "bedrock.amazonaws.com"
PREFIX, VERSION = "bedrock-api-key-", "&Version=1"
# AWS's limit for short-term keys (Amazon Bedrock user guide, "API keys").
LONGEST = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockKey(AccessToken):
    """A key, and the session whose signature it is."""

    made_with: AwsCredential


class BedrockKeys(Vendor):
    """Makes Bedrock API keys; safe to share between threads."""

    def __init__(self, context: VendorContext) -> None:
        self._sts = Sts(context)
        self._clock = context.clock

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> BedrockKey:
        """See ``Vendor``."""
        assert isinstance(source, BedrockApiKey)  # noqa: S101 - the only source of this provider
        role = source.role
        try:
            credential = self._sts.credential(role, steps)
        except Denied as error:
            # STS blames the annotation of AWS policies, which this policy does not have; here the field stands in the
            # block.
            if error.reason != "DurationTooLong":
                raise
            hint = "lower duration in the annotation to the role's MaxSessionDuration, or raise that"
            raise Denied(error.reason, error.message, hint=hint) from None
        return api_key(credential, source.duration or LONGEST, self._clock())

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:
        """See ``Vendor``: the session that the key is made with; of the key itself no call tells without a permission.

        A key is good as long as its session is, if the signature is right, which is made here.
        """
        assert isinstance(source, BedrockApiKey)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, BedrockKey)  # noqa: S101 - what it gave
        self._sts.verify(source.role, credential.made_with, steps)

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``: STS."""
        assert isinstance(source, BedrockApiKey)  # noqa: S101 - the only source of this provider
        return self._sts.endpoint(source.role)


def api_key(credential: AwsCredential, life: timedelta, now: datetime) -> BedrockKey:
    """Make a key: good for ``life`` at most, and never longer than the credential."""
    request = AWSRequest(
        method="POST", url=f"https://{HOST}/", headers={"host": HOST}, params={"Action": "CallWithBearerToken"}
    )
    known = Credentials(
        credential.access_key_id, credential.secret_access_key.reveal(), credential.session_token.reveal()
    )
    _Signer(known, "bedrock", credential.region, expires=int(life.total_seconds())).sign(request, now)
    presigned = str(request.url).removeprefix("https://") + VERSION
    # SigV4 knows whole seconds, so the life begins at the one that was signed.
    signed_at = now.replace(microsecond=0)
    return BedrockKey(
        Sensitive(PREFIX + base64.b64encode(presigned.encode()).decode()),
        credential.issued_at,
        # A signature ends with the session that made it, however long it says it is good.
        min(credential.expires_at, signed_at + life),
        credential.request_id,
        made_with=credential,
    )


class _Signer(SigV4QueryAuth):
    """botocore's signer, by our clock: its own goes by the machine's, which may be wrong."""

    def sign(self, request: Any, now: datetime) -> None:
        """Sign as ``add_auth`` does."""
        signer: Any = self  # what the stubs leave out
        request.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
        signer._modify_request_before_signing(request)  # noqa: SLF001
        text = signer.string_to_sign(request, signer.canonical_request(request))
        signer._inject_signature_to_request(request, signer.signature(text, request))  # noqa: SLF001
