"""STS calls that are signed with a session: AssumeRole for the further roles of a chain, and GetCallerIdentity.

boto3 signs, builds and parses; our transport sends. Kept apart, since boto3 takes as long to import as the one unsigned
call that most policies need.
Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, …/API_GetCallerIdentity.html
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions
from botocore.awsrequest import AWSResponse

from credrotator.exchange.http.foreign import masking
from credrotator.providers.aws.identity import check_identity, identity_refusal
from credrotator.providers.aws.sdk import CONFIG, misconfigured, sdk_session
from credrotator.providers.aws.sts_answers import UNREADABLE, credential_in, session_name, unreadable
from credrotator.providers.aws.sts_errors import chain_refusal
from credrotator.providers.aws.web_identity_call import ReadBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_sts.client import STSClient

    from credrotator.core.errors import RotationError
    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import Clock
    from credrotator.providers.aws.source import AwsCredential, AwsOidc, ChainedRole


class SignedCalls:
    """Signed calls of STS; safe to share between threads.

    Args:
        answered: Sends a request (method, URL, body, headers), and raises where STS did not answer.
        clock: Now.
    """

    def __init__(
        self,
        answered: Callable[[str, str, Any, dict[str, str]], requests.Response],
        clock: Clock,
    ) -> None:
        self._session = boto3.Session(botocore_session=sdk_session())
        self._answered = answered
        self._clock = clock
        self._lock = threading.Lock()

    def assume(
        self, policy: ObjectKey, source: AwsOidc, role: ChainedRole, by: tuple[str, AwsCredential]
    ) -> AwsCredential:
        """Assume a role of the chain, by a role that is assumed already and its credential.

        Raises:
            RotationError: Reason is AWS's own code where it sent one.
        """
        caller, credential = by
        with self._calling(
            source.region, credential, lambda answer: chain_refusal(answer, source, role, caller, self._clock())
        ) as client:
            asked_s = time.monotonic()
            answer = client.assume_role(**_assumption(policy, source, role))
        now = self._clock()
        return credential_in(answer, source, now - timedelta(seconds=time.monotonic() - asked_s), now)

    def identify(self, source: AwsOidc, credential: AwsCredential) -> None:
        """Ask STS whose a credential is; it has to be the role's that the policy names, or of several the last.

        Raises:
            Rejected: It is nobody's, or another's.
            RotationError: STS says nothing of it.
        """
        with self._calling(
            source.region, credential, lambda answer: identity_refusal(answer, source, self._clock())
        ) as client:
            answer: dict[str, Any] = dict(client.get_caller_identity())
        check_identity(answer.get("Arn"), source)

    @contextmanager
    def _calling(
        self, region: str, credential: AwsCredential, refusal: Callable[[Mapping[str, Any]], RotationError]
    ) -> Iterator[STSClient]:
        """Yield a client for one call; what comes of it in place of an answer is raised as ours.

        Args:
            region: Whose STS is asked.
            credential: Signs the call.
            refusal: Says what an error of STS means.
        """
        client = self._signing_client(region, credential)
        try:
            with masking(credential.secret_access_key, credential.session_token):
                yield client
        except botocore.exceptions.ClientError as error:
            # Not "from" it: it has AWS's words as they came.
            raise refusal(error.response) from None
        except botocore.exceptions.BotoCoreError as error:
            raise misconfigured(error) from error
        except UNREADABLE:
            raise unreadable("is not readable") from None

    def _signing_client(self, region: str, credential: AwsCredential) -> STSClient:
        """Return a client that signs with a credential; made for one call (3 ms), and not kept: nor is its secret."""
        # Sessions are not safe to share between threads, clients are.
        with self._lock:
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


def _assumption(policy: ObjectKey, source: AwsOidc, role: ChainedRole) -> dict[str, Any]:
    """Return what AssumeRole is asked; the duration is that of the last role, whose credential is published."""
    asked: dict[str, Any] = {"RoleArn": role.arn, "RoleSessionName": session_name(policy)}
    if source.duration and role is source.chain[-1]:
        asked["DurationSeconds"] = int(source.duration.total_seconds())
    if role.tags:
        asked["Tags"] = [{"Key": key, "Value": value} for key, value in role.tags]
    further = {"ExternalId": role.external_id, "Policy": role.policy, "SourceIdentity": role.source_identity}
    return {**asked, **{name: value for name, value in further.items() if value}}
