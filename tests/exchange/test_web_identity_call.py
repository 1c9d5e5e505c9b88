"""AssumeRoleWithWebIdentity beside the SDK's own call: the same request to the byte, the same answer read from it."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
import requests
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from credrotator.providers.aws.web_identity_call import EACH_CALL, OPERATION, ReadBody, WebIdentityCall

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

ROLE = "arn:aws:iam::123456789012:role/bedrock"
ASKED = {"RoleArn": ROLE, "RoleSessionName": "xx", "WebIdentityToken": "xxxx"}
parameters = st.fixed_dictionaries(
    {
        "RoleArn": st.text(string.printable, min_size=20, max_size=80) | st.just(ROLE),
        "RoleSessionName": st.text(min_size=2, max_size=64),
        "WebIdentityToken": st.text(min_size=4, max_size=400),
    },
    optional={"DurationSeconds": st.integers(900, 43200)},
)
CREDENTIALS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Audience>a</Audience><Credentials><AccessKeyId>A</AccessKeyId>
<SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken><Expiration>{expiration}</Expiration></Credentials>
<PackedPolicySize>3</PackedPolicySize></AssumeRoleWithWebIdentityResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>"""
REFUSAL = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"""


class Sdk:
    """The SDK's client, whose request is written down, and that gets the answer it is told."""

    def __init__(self, region: str = "eu-central-1", **config: Any) -> None:
        session: Any = botocore.session.Session()
        settings = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, **config)
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        self.client: Any = session.create_client("sts", region_name=region, config=settings, **keys)
        self.call = WebIdentityCall(self.client)
        self.sent: list[AWSPreparedRequest] = []
        self.status, self.body = 200, CREDENTIALS.format(expiration="2099-01-01T00:00:00Z")
        self.client.meta.events.register("before-send.sts", self._answer)

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        self.sent.append(request)
        headers: Any = {"Date": "x"}
        return AWSResponse(request.url, self.status, headers, ReadBody(self.body.encode()))

    def asks(self, given: dict[str, Any]) -> Any:
        """Call by the SDK, without what says how often it tried."""
        answered = self.client.assume_role_with_web_identity(**given)
        for name in ("RetryAttempts", "MaxAttemptsReached"):
            answered["ResponseMetadata"].pop(name, None)
        return answered

    def reads(self) -> dict[str, Any]:
        """Read the same answer by the call that was prepared."""
        response = requests.Response()
        response.status_code, response.url = self.status, self.call.url
        response.headers["Date"] = "x"
        response._content = self.body.encode()
        return self.call.parsed(response)


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    """Return the SDK's client for one region."""
    return Sdk()


@given(given_parameters=parameters)
def test_the_form_is_the_sdks(sdk: Sdk, given_parameters: dict[str, Any]) -> None:
    """Whatever stands in role, session name and token: the same bytes, in the same order."""
    sdk.asks(given_parameters)
    assert sdk.call.body(given_parameters) == sdk.sent[-1].body


@pytest.mark.parametrize(
    ("region", "config"),
    [
        ("eu-central-1", {}),
        ("us-east-1", {}),
        ("cn-north-1", {}),
        ("us-gov-west-1", {"use_fips_endpoint": True}),
        ("us-east-1", {"use_dualstack_endpoint": True}),
    ],
)
def test_address_and_headers_are_the_sdks(region: str, config: dict[str, Any]) -> None:
    """They are those of the SDK's next call, but for what counts tries, and for the type, which has no charset."""
    sdk = Sdk(region, **config)
    sdk.asks(ASKED)
    (sent,) = sdk.sent
    assert sent.url == sdk.call.url
    prepared: dict[str, Any] = dict(sent.headers)
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in prepared.items()}
    own = {"Content-Type", "Content-Length", *EACH_CALL}
    assert {name: value for name, value in headers.items() if name not in own} == {
        name: value for name, value in sdk.call.headers.items() if name not in own
    }
    assert headers["Content-Type"].partition(";")[0] == sdk.call.headers["Content-Type"]
    assert "Content-Length" not in sdk.call.headers


@pytest.mark.parametrize(
    "expiration",
    [
        "2099-01-01T00:00:00Z",
        "2099-01-01T00:00:00.5Z",
        "2099-01-01T00:00:00.123456Z",
        "2099-01-01T01:00:00+01:00",
        "2099-01-01T00:00:00",
        "4070908800",
        "20990101T000000Z",
        "Thu, 01 Jan 2099 00:00:00 GMT",
    ],
)
def test_the_answer_is_read_as_by_the_sdk(sdk: Sdk, expiration: str) -> None:
    """Times of every shape that the SDK takes included."""
    sdk.status, sdk.body = 200, CREDENTIALS.format(expiration=expiration)
    wanted = sdk.asks(ASKED)
    assert sdk.reads() == wanted
    assert wanted["Credentials"]["SessionToken"] == "T"


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredTokenException"), (403, "AccessDenied"), (503, "Slow")])
def test_a_refusal_is_the_sdks(sdk: Sdk, status: int, code: str) -> None:
    """Code and words arrive in the SDK's own exception."""
    sdk.status, sdk.body = status, REFUSAL.format(code=code, message="no &amp; never")
    with pytest.raises(ClientError) as by_sdk:
        sdk.asks(ASKED)
    with pytest.raises(ClientError) as read:
        sdk.reads()
    assert read.value.response["Error"] == by_sdk.value.response["Error"]
    assert read.value.response["Error"]["Message"] == "no & never"
    assert read.value.operation_name == OPERATION


@pytest.mark.parametrize("expiration", ["", "soon", "2099-13-01T00:00:00Z", "2099-02-30T00:00:00Z", "-", "1e400"])
def test_a_time_that_is_none(sdk: Sdk, expiration: str) -> None:
    """What the SDK cannot read is not read here either."""
    sdk.status, sdk.body = 200, CREDENTIALS.format(expiration=expiration)
    outcomes: list[object] = []
    for read in (sdk.reads, lambda: sdk.asks(ASKED)):
        try:
            outcomes.append(read()["Credentials"].get("Expiration"))
        except Exception as error:  # noqa: BLE001 - whatever the parser stumbles with
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


def test_nothing_is_sent_to_prepare_it() -> None:
    """The SDK prepares a call when the client is new; who listens for requests hears of none."""
    sdk = Sdk()
    assert sdk.sent == []
