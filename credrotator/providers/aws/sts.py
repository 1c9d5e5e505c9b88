"""AWS STS by web identity, and what needs the session that it gives.

Owns the AWS side of an exchange. The SDK builds, routes (regional, FIPS, AWS_ENDPOINT_URL_STS) and parses; our
transport sends, so that deadline, size limit and trust are the same for every vendor.
Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import botocore.exceptions
from botocore import UNSIGNED
from botocore.config import Config

from credrotator.core.errors import Denied
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.http.foreign import masking
from credrotator.exchange.http.transport import refuse_failure
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.aws.sdk import CONFIG, check_region, misconfigured, sdk_session
from credrotator.providers.aws.source import AwsCredential, AwsOidc
from credrotator.providers.aws.sts_answers import UNREADABLE, credential_in, session_name, unreadable
from credrotator.providers.aws.sts_errors import refusal
from credrotator.providers.aws.web_identity_call import WebIdentityCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from botocore.session import Session

    from credrotator.core.model import Credential, ObjectKey, Rotatable, SubjectToken
    from credrotator.providers.aws.signed_calls import SignedCalls


STS = Endpoint(
    "Sts",
    "AWS STS",
    post="AssumeRoleWithWebIdentity",
    proxy_variable="AI_GATEWAY_STS_PROXY_URL",
    # Botocore falls back in the same way.
    ca_variables=("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    address_setting="AWS_ENDPOINT_URL_STS",
)
LONGEST_TOKEN = 20_000
"""Characters of a web identity token that AWS takes."""
MOST_REGIONS = 64
"""Regions of which the call is kept; AWS has fewer."""


class Sts(Vendor):
    """Exchanges subject tokens for AWS credentials; safe to share between threads."""

    def __init__(self, context: VendorContext) -> None:
        self.transport = context.transport(STS)
        self._clock = context.clock
        self._lock = threading.Lock()
        # Made with the first client: a session reads the SDK's data, which whoever has no policy for AWS need not pay.
        self._session: Session | None = None
        self._signed: SignedCalls | None = None
        self._calls: OrderedDict[str, WebIdentityCall] = OrderedDict()

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AwsCredential:
        """See ``Vendor``."""
        assert isinstance(source, AwsOidc)  # noqa: S101 - the only source of this provider
        credential = steps.exchange(source.asked, lambda token: self.exchange(steps.policy, source, token))
        caller = source.role_arn
        for role in source.chain:
            # Bound now: each step has its own role, and the credential of the one before.
            assume = partial(self._signed_calls().assume, steps.policy, source, role, (caller, credential))
            credential, caller = steps.ask(source.asked_for(role), assume), role.arn
        return credential

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``."""
        assert isinstance(source, AwsOidc)  # noqa: S101 - the only source of this provider
        return NetworkEndpoint("sts", STS.title, self.address(source.region), self.transport)

    def exchange(self, policy: ObjectKey, source: AwsOidc, token: SubjectToken) -> AwsCredential:
        """Assume the policy's role with the issuer's token.

        Raises:
            RotationError: Reason is AWS's own code where it sent one.
        """
        call = self._usable_call(source.region)
        _check_length(token)
        asked_s = time.monotonic()
        try:
            with masking(token.token):
                answer = self._assume(call, policy, source, token)
        except UNREADABLE:
            # Not "from" it: the parser quotes what it could not read.
            raise unreadable("is not readable") from None
        # NOTE: the answer's Date may just have put the clock right, so the life is not measured from before.
        now = self._clock()
        return credential_in(answer, source, now - timedelta(seconds=time.monotonic() - asked_s), now)

    def _assume(
        self, call: WebIdentityCall, policy: ObjectKey, source: AwsOidc, token: SubjectToken
    ) -> Mapping[str, Any]:
        parameters: dict[str, str | int] = {
            "RoleArn": source.role_arn,
            "RoleSessionName": session_name(policy),
            "WebIdentityToken": token.token.reveal(),
        }
        if source.duration:
            parameters["DurationSeconds"] = int(source.duration.total_seconds())
        response = self._answered("POST", call.url, call.body(parameters), call.headers)
        try:
            return call.parsed(response)
        except botocore.exceptions.ClientError as error:
            # Not "from" it: it has AWS's words as they came.
            raise refusal(error.response, source, token, self._clock()) from None

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:
        """See ``Vendor``: GetCallerIdentity, which needs no permission and tells whose session it is."""
        assert isinstance(source, AwsOidc)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, AwsCredential)  # noqa: S101 - what it gave
        asked = source.asked_for(source.chain[-1]) if source.chain else source.asked
        steps.ask(asked, lambda: self._signed_calls().identify(source, credential))

    def address(self, region: str) -> str:
        """Return the URL of a region's STS, as the SDK and its variables have it.

        Raises:
            Denied: StsConfig: the SDK cannot tell.
        """
        return self._usable_call(region).url

    def _usable_call(self, region: str) -> WebIdentityCall:
        try:
            return self._call(region)
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise misconfigured(error) from error

    def _call(self, region: str) -> WebIdentityCall:
        """Return the region's call: one session for all, one call per region (5 ms, 0.1 MiB).

        Raises:
            PolicyError: UnknownRegion: AWS has no such region.
        """
        with self._lock:
            if region not in self._calls:
                self._session = self._session or sdk_session()
                check_region(self._session, region)
                config = Config(signature_version=UNSIGNED).merge(CONFIG)
                # NOTE: keys that are never used, since the call is unsigned; without any, botocore would search its
                # whole credential chain first, the metadata service included.
                client: Any = self._session.create_client(
                    "sts",
                    region_name=region,
                    aws_access_key_id="unused",
                    aws_secret_access_key="unused",
                    config=config,
                )
                self._calls[region] = WebIdentityCall(client)
                if len(self._calls) > MOST_REGIONS:
                    self._calls.popitem(last=False)
            self._calls.move_to_end(region)
            return self._calls[region]

    def _signed_calls(self) -> SignedCalls:
        if self._signed is None:
            # boto3, where a chain of roles or a credential to verify needs it; two threads may both make one.
            from credrotator.providers.aws.signed_calls import SignedCalls  # noqa: PLC0415

            self._signed = SignedCalls(self._answered, self._clock)
        return self._signed

    def _answered(self, method: str, url: str, body: Any, headers: dict[str, str]) -> requests.Response:
        response = self.transport.request(method, url, data=body, headers=headers)
        if b"<Code>" not in response.content:
            # Not STS but what stands before it; the SDK would find no words for it.
            refuse_failure(response, STS, self._clock)
        return response


def _check_length(token: SubjectToken) -> None:
    length = len(token.token.reveal())
    if length > LONGEST_TOKEN:
        message = f"the issuer's token has {length} characters, and AWS takes {LONGEST_TOKEN} at most"
        hint = "have the issuer leave long claims, such as groups or roles, out of this client's tokens"
        raise Denied("TokenTooLong", message, hint=hint)
