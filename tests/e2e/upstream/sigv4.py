"""AWS Signature Version 4, verified: the signature is computed once more, from the secret that was published.

Follows the "AWS Signature Version 4 signing process" of the IAM user guide, by the code of botocore.
"""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.published import AwsCredential, Published
from tests.e2e.upstream.journal import Request, Verdict

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_MAX_AGE = timedelta(minutes=5)
_MUST_SIGN = {"host", "x-amz-date", "x-amz-security-token"}


class PublishedKeys:
    """Every AWS credential that was ever published, by its access key id.

    The gateway may sign with a credential before the test that published it has looked, and still sign with the
    one before it while the new one settles. So an unknown key is looked for in the directory, and no key is forgotten.
    """

    def __init__(self, published: Published) -> None:
        self._published = published
        self._known: dict[str, AwsCredential] = {}

    def find(self, key_id: str) -> AwsCredential | None:
        """Return the credential of an access key id, if it was ever published."""
        if key_id not in self._known:
            self._known.update({one.key_id: one for one in self._published.all_aws()})
        return self._known.get(key_id)


class SigV4Verifier:
    """Judges a request by the signature it carries."""

    def __init__(self, find: Callable[[str], AwsCredential | None]) -> None:
        self._find = find

    def verify(self, request: Request) -> Verdict:
        """Tell which access key signed, and whether all that it has to sign is what it signed."""
        match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if match is None:
            return Verdict("none", "no signature")
        credential = self._find(match["key"])
        if credential is None:
            return Verdict(match["key"], "unknown key")
        return Verdict(match["key"], self._fault(request, match, credential))

    def _fault(self, request: Request, match: re.Match[str], credential: AwsCredential) -> str | None:
        signed = match["headers"].split(";")
        if missing := _MUST_SIGN.difference(signed):
            return f"not signed: {', '.join(sorted(missing))}"
        if request.headers["x-amz-security-token"] != credential.session_token:
            return "wrong session token"
        if abs(datetime.now(UTC) - _signed_at(request)) > _MAX_AGE:
            return "stale date"
        if request.headers.get("x-amz-content-sha256", _digest(request.body)) != _digest(request.body):
            return "body is not the one that was signed"
        again = _Again(credential, match["service"], match["region"], signed)
        return None if again.signature_of(request) == match["signature"] else "signature mismatch"


class _Again(SigV4Auth):
    """Signs a received request with the headers its sender chose, where botocore would choose for itself."""

    def __init__(self, credential: AwsCredential, service: str, region: str, signed: list[str]) -> None:
        super().__init__(Credentials(credential.key_id, credential.secret), service, region)
        self._signed = signed

    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        headers = HTTPMessage()
        for name in self._signed:
            headers[name] = request.headers[name]
        return headers

    def signature_of(self, request: Request) -> str:
        received = AWSRequest(
            method=request.method,
            url=f"https://{request.host}{request.target}",
            headers=request.headers,
            data=request.body,
        )
        received.context["timestamp"] = request.headers["x-amz-date"]
        return self.signature(self.string_to_sign(received, self.canonical_request(received)), received)


def _signed_at(request: Request) -> datetime:
    return datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
