"""AWS STS AssumeRoleWithWebIdentity, and AssumeRole for further roles, by boto3.

Owns the AWS side of an exchange. boto3 builds, routes (regional, FIPS, AWS_ENDPOINT_URL_STS) and parses the request;
our transport sends it, so that deadline, size limit and trust are the same for every vendor.
Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions
import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.parsers import ResponseParserError

from credrotator.core.durations import show_duration
from credrotator.core.errors import (
    Denied,
    Outage,
    PolicyError,
    printable,
)
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.http.foreign import masking
from credrotator.exchange.http.transport import refuse_failure
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.aws.identity import check_identity, identity_refusal
from credrotator.providers.aws.source import AwsCredential, AwsOidc, ChainedRole
from credrotator.providers.aws.sts_errors import chain_refusal, refusal
from credrotator.providers.aws.web_identity_call import ReadBody, WebIdentityCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_sts.client import STSClient

    from credrotator.core.model import Credential, ObjectKey, Rotatable, SubjectToken


STS = Endpoint(
    "Sts",
    "AWS STS",
    post="AssumeRoleWithWebIdentity",
    proxy_variable="AI_GATEWAY_STS_PROXY_URL",
    # Botocore falls back in the same way.
    ca_variables=("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    address_setting="AWS_ENDPOINT_URL_STS",
)
SESSION_NAME_LIMIT = 64
COUNTING = ("use_fips_endpoint", "data_path")
"""Settings of the SDK that a variable may change; beside them it reads AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL."""
UNREADABLE = (ResponseParserError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What the SDK's parser stumbles with over an answer that is none of STS: all but the first are its accidents."""
LONGEST_TOKEN = 20_000
"""Characters of a web identity token that AWS takes."""
SKEW_LIMIT = timedelta(minutes=1)
MOST_REGIONS = 64
"""Regions of which the call is kept; AWS has fewer."""


CONFIG = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    defaults_mode="legacy",  # type: ignore[arg-type]  # the stubs have it as a bool
)
"""The settings that would turn into waiting: retries in the SDK, its adaptive mode, and defaults that it would ask the
metadata service for."""


class Sts(Vendor):
    """Exchanges subject tokens for AWS credentials; safe to share between threads."""

    def __init__(self, context: VendorContext) -> None:
        self.transport = context.transport(STS)
        self._clock = context.clock
        self._lock = threading.Lock()
        # Made with the first client: a session reads 7 MiB of the SDK's data, which whoever has no policy for AWS need
        # not pay.
        self._session: boto3.Session | None = None
        self._calls: OrderedDict[str, WebIdentityCall] = OrderedDict()

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AwsCredential:
        """See ``Vendor``."""
        assert isinstance(source, AwsOidc)  # noqa: S101 - the only source of this provider
        credential = steps.exchange(source.asked, lambda token: self.exchange(steps.policy, source, token))
        caller = source.role_arn
        for role in source.chain:
            # Bound now: each step has its own role, and the credential of the one before.
            assume = partial(self.assume, steps.policy, source, role, (caller, credential))
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
            raise _unreadable("is not readable") from None
        # NOTE: the answer's Date may just have put the clock right, so the life is not measured from before.
        now = self._clock()
        return _credential(answer, source, now - timedelta(seconds=time.monotonic() - asked_s), now)

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

    def assume(
        self, policy: ObjectKey, source: AwsOidc, role: ChainedRole, by: tuple[str, AwsCredential]
    ) -> AwsCredential:
        """Assume a role of the chain, by a role that is assumed already and its credential.

        Raises:
            RotationError: Reason is AWS's own code where it sent one.
        """
        caller, credential = by
        client, asked_s = self._signing_client(source.region, credential), time.monotonic()
        try:
            with masking(credential.secret_access_key, credential.session_token):
                answer = client.assume_role(**_assumption(policy, source, role))
        except botocore.exceptions.ClientError as error:
            # Not "from" it: it has AWS's words as they came.
            raise chain_refusal(error.response, source, role, caller, self._clock()) from None
        except botocore.exceptions.BotoCoreError as error:
            raise _misconfigured(error) from error
        except UNREADABLE:
            raise _unreadable("is not readable") from None
        now = self._clock()
        return _credential(answer, source, now - timedelta(seconds=time.monotonic() - asked_s), now)

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:
        """See ``Vendor``: GetCallerIdentity, which needs no permission and tells whose session it is."""
        assert isinstance(source, AwsOidc)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, AwsCredential)  # noqa: S101 - what it gave
        asked = source.asked_for(source.chain[-1]) if source.chain else source.asked
        steps.ask(asked, lambda: self.identify(source, credential))

    def identify(self, source: AwsOidc, credential: AwsCredential) -> None:
        """Ask STS whose a credential is; it has to be the role's that the policy names, or of several the last.

        Raises:
            Rejected: It is nobody's, or another's.
            RotationError: STS says nothing of it.
        """
        client = self._signing_client(source.region, credential)
        try:
            with masking(credential.secret_access_key, credential.session_token):
                answer: dict[str, Any] = dict(client.get_caller_identity())
        except botocore.exceptions.ClientError as error:
            # Not "from" it: it has AWS's words as they came.
            raise identity_refusal(error.response, source, self._clock()) from None
        except botocore.exceptions.BotoCoreError as error:
            raise _misconfigured(error) from error
        except UNREADABLE:
            raise _unreadable("is not readable") from None
        check_identity(answer.get("Arn"), source)

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
            raise _misconfigured(error) from error

    def _call(self, region: str) -> WebIdentityCall:
        """Return the region's call: one session (93 ms, 7 MiB) for all, one call per region (5 ms, 0.1 MiB).

        Raises:
            PolicyError: UnknownRegion: AWS has no such region.
        """
        with self._lock:
            if region not in self._calls:
                self._session = self._session or _session()
                _check_region(self._session, region)
                config = Config(signature_version=UNSIGNED).merge(CONFIG)
                # NOTE: keys that are never used, since the call is unsigned; without any, botocore would search its
                # whole credential chain first, the metadata service included.
                client = self._session.client(
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

    def _signing_client(self, region: str, credential: AwsCredential) -> STSClient:
        """Return a client that signs with a credential; made for one call (3 ms), and not kept: nor is its secret."""
        self._usable_call(region)
        with self._lock:
            assert self._session is not None  # noqa: S101 - made with the region's own call
            client = self._session.client(
                "sts",
                region_name=region,
                aws_access_key_id=credential.access_key_id,
                aws_secret_access_key=credential.secret_access_key.reveal(),
                aws_session_token=credential.session_token.reveal(),
                config=CONFIG,
            )
        client.meta.events.register("before-send.sts", self._send_signed)  # type: ignore[arg-type]
        return client

    def _send_signed(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        # The SDK builds and parses; the request goes through our transport, with its deadline, limits and trust.
        response = self._answered(request.method, request.url, request.body, dict(request.headers))
        answered: Any = response.headers
        return AWSResponse(response.url, response.status_code, answered, ReadBody(response.content))

    def _answered(self, method: str, url: str, body: Any, headers: dict[str, str]) -> requests.Response:
        response = self.transport.request(method, url, data=body, headers=headers)
        if b"<Code>" not in response.content:
            # Not STS but what stands before it; the SDK would find no words for it.
            refuse_failure(response, STS, self._clock)
        return response


def _session() -> boto3.Session:
    """Make a session that knows no profile, no file of a person's, and no variable but those that are documented.

    The call is unsigned: a profile that is misspelt must not stop it, and none may lead it, and the token, elsewhere.
    """
    known = botocore.session.Session.SESSION_VARIABLES
    unset = {name: (None, None, default, convert) for name, (_, _, default, convert) in known.items()}
    counting = {name: known[name] for name in COUNTING}
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return boto3.Session(botocore_session=botocore.session.Session({**unset, **files, **counting}))


def _check_length(token: SubjectToken) -> None:
    length = len(token.token.reveal())
    if length > LONGEST_TOKEN:
        message = f"the issuer's token has {length} characters, and AWS takes {LONGEST_TOKEN} at most"
        hint = "have the issuer leave long claims, such as groups or roles, out of this client's tokens"
        raise Denied("TokenTooLong", message, hint=hint)


def _unreadable(what: str) -> Outage:
    hint = "see whether AWS_ENDPOINT_URL_STS names an STS"
    return Outage("InvalidResponse", f"the answer of AWS STS {what}", hint=hint)


def _check_region(session: boto3.Session, region: str) -> None:
    """Refuse a region that the SDK's data does not have, though its name would fit: anybody can write one.

    Raises:
        PolicyError: There is no such region.
    """
    partitions = {name: session.get_available_regions("sts", name) for name in session.get_available_partitions()}
    if any(region in regions for regions in partitions.values()):
        return
    with contextlib.suppress(botocore.exceptions.UnknownRegionError):
        # A partition whose regions the data does not list has names that fit its pattern.
        if not partitions.get(session.get_partition_for_region(region)):
            return
    hint = "correct region in the policy; one that is newer than this release of credrotator needs a newer release"
    raise PolicyError("UnknownRegion", f"AWS STS has no region {printable(region, 60)}", hint=hint)


def _misconfigured(error: Exception) -> Denied:
    hint = "see AWS_ENDPOINT_URL_STS and the other AWS_* variables of the user who runs credrotator"
    return Denied("StsConfig", f"the AWS SDK cannot call STS: {printable(error)}", hint=hint)


def session_name(policy: ObjectKey) -> str:
    """Name the role session after the policy, as the gateway does; what AWS does not take is told apart by a hash."""
    full_name = f"ai-gateway-{policy.name}"
    name = _NOT_IN_SESSION_NAME.sub("-", full_name)
    if name == full_name and len(name) <= SESSION_NAME_LIMIT:
        return name
    digest = hashlib.sha256(str(policy).encode()).hexdigest()[:10]
    return f"{name[: SESSION_NAME_LIMIT - len(digest) - 1]}-{digest}"


_NOT_IN_SESSION_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)


def _assumption(policy: ObjectKey, source: AwsOidc, role: ChainedRole) -> dict[str, Any]:
    """Return what AssumeRole is asked; the duration is that of the last role, whose credential is published."""
    asked: dict[str, Any] = {"RoleArn": role.arn, "RoleSessionName": session_name(policy)}
    if source.duration and role is source.chain[-1]:
        asked["DurationSeconds"] = int(source.duration.total_seconds())
    if role.tags:
        asked["Tags"] = [{"Key": key, "Value": value} for key, value in role.tags]
    further = {"ExternalId": role.external_id, "Policy": role.policy, "SourceIdentity": role.source_identity}
    return {**asked, **{name: value for name, value in further.items() if value}}


def _credential(
    answer: Mapping[str, Any],
    source: AwsOidc,
    issued_at: datetime,
    now: datetime,
) -> AwsCredential:
    credentials = answer.get("Credentials")
    parts = credentials if isinstance(credentials, dict) else {}
    keys = [parts.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    expires_at = parts.get("Expiration")
    if not all(isinstance(key, str) and key for key in keys) or not isinstance(expires_at, datetime):
        raise _unreadable("came without complete credentials")
    if expires_at.tzinfo is None:
        raise _unreadable("has an expiry without a time zone")
    access_key_id, secret_access_key, session_token = map(str, keys)
    together = access_key_id + secret_access_key + session_token
    if " " in together or not together.isprintable():
        # Such a value would break the shared-credentials file, or add a line of its own to it.
        raise _unreadable("has a credential with white space or control characters in it")
    metadata = answer.get("ResponseMetadata", {})
    if expires_at <= now:
        skew = _skew(metadata.get("HTTPHeaders", {}).get("date", ""), now)
        raise Outage(
            "CredentialExpired",
            f"AWS STS gave a credential that expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="set the clock of this machine: " + skew if skew else "compare the clock of this machine with AWS's",
        )
    return AwsCredential(
        access_key_id,
        Sensitive(secret_access_key),
        Sensitive(session_token),
        source.region,
        issued_at,
        expires_at.astimezone(UTC),
        metadata.get("RequestId"),
    )


def _skew(date: str, now: datetime) -> str:
    """Say by how much this machine's clock differs from a Date header; nothing where that is little or unknown."""
    try:
        behind = parsedate_to_datetime(date) - now
    except (TypeError, ValueError):
        return ""
    if abs(behind) < SKEW_LIMIT:
        return ""
    return f"it is {show_duration(abs(behind))} {'behind' if behind > timedelta(0) else 'ahead of'} AWS's"
