"""AssumeRoleWithWebIdentity on the wire: the SDK's own request and parser, with what never changes done once.

For each call botocore resolves the endpoint, runs its hooks and puts its user agent together: 1.5 ms of CPU, of 2.6 for
a whole exchange. Of the calls of one client, only the form differs. So the SDK prepares one call for each region, which
is not sent; address and headers are taken from it. Answers go through the SDK's parser. Must not
send.
Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import io
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import botocore.exceptions
from botocore.awsrequest import AWSResponse
from botocore.parsers import ResponseParserFactory
from botocore.utils import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_sts.client import STSClient

OPERATION = "AssumeRoleWithWebIdentity"
FORM = "application/x-www-form-urlencoded"
"""Without the charset that the SDK adds, and that the type does not have."""
EACH_CALL = ("amz-sdk-invocation-id", "amz-sdk-request")
"""Headers of the SDK that count its own retries, of which there are none."""
REDIRECTION = 300
_NO_ROLE = "arn:aws:iam::000000000000:role/unused"
_USUAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z")


class ReadBody(io.BytesIO):
    """A body that was read already, in the shape in which botocore wants an unread one."""

    def stream(self) -> Iterator[bytes]:
        """Yield the body."""
        yield self.read()


class WebIdentityCall:
    """The call to one region's STS; safe to share between threads.

    Args:
        client: Of the region, unsigned.

    Attributes:
        url: Where it goes.
        headers: What it is sent with.

    Raises:
        BotoCoreError: The SDK cannot tell where.
    """

    def __init__(self, client: STSClient) -> None:
        prepared = _prepared(client)
        self.url = prepared.url
        headers = {name: _text(value) for name, value in prepared.headers.items() if name not in EACH_CALL}
        self.headers = {**headers, "Content-Type": FORM}
        # Made by whoever sends it, for each body.
        self.headers.pop("Content-Length", None)
        model = client.meta.service_model.operation_model(OPERATION)
        self._fixed = {"Action": OPERATION, "Version": client.meta.service_model.api_version}
        factory = ResponseParserFactory()
        factory.set_parser_defaults(timestamp_parser=_timestamp)
        self._parser: Any = factory.create_parser(model.metadata["protocol"])
        self._shape: Any = model.output_shape

    def body(self, parameters: Mapping[str, str | int]) -> str:
        """Return the form that asks for a credential; ``parameters`` are the operation's, in its spelling."""
        return urlencode({**self._fixed, **parameters})

    def parsed(self, response: requests.Response) -> dict[str, Any]:
        """Read an answer as the SDK would return it.

        Raises:
            ClientError: STS refuses.
            ResponseParserError: It is none of STS; the parser has accidents of other kinds as well.
        """
        status = response.status_code
        headers = {name.lower(): value for name, value in response.headers.items()}
        answered = {"headers": headers, "status_code": status, "body": response.content}
        parsed: dict[str, Any] = self._parser.parse(answered, self._shape)
        if status >= REDIRECTION:
            raise botocore.exceptions.ClientError(parsed, OPERATION)  # type: ignore[arg-type]  # a typed dict of its own
        return parsed


def _prepared(client: STSClient) -> AWSPreparedRequest:
    """Have the SDK prepare a call, which gets its answer here."""
    kept: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        kept.append(request)
        empty = f"<{OPERATION}Response><{OPERATION}Result/></{OPERATION}Response>".encode()
        return AWSResponse(request.url, 200, {}, ReadBody(empty))  # type: ignore[arg-type]

    event = "before-send.sts"
    # First of all that are asked: the first answer counts.
    client.meta.events.register_first(event, keep)  # type: ignore[arg-type]
    try:
        client.assume_role_with_web_identity(RoleArn=_NO_ROLE, RoleSessionName="unused", WebIdentityToken="unused")
    finally:
        client.meta.events.unregister(event, keep)  # type: ignore[arg-type]
    return kept[0]


def _timestamp(value: str) -> datetime:
    """Read a time as the SDK does, without its parser of all that a date may look like where that is not needed."""
    if _USUAL_TIME.fullmatch(value):
        return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
