"""What a hostile tenant does, one line of the siege's table each: policies, Secrets, servers and edits of its own.

Owns the attacks, and the figure that each is judged by besides; what the others notice is ``siege``'s.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from werkzeug import Response

from credrotator.kube.client.api_errors import CONFLICT
from credrotator.kube.store import MANAGED_BY
from credrotator.sandbox import Answer, Drip, Fault, Hang, Role, Sandbox, ServiceError
from tests.support.cluster_policies import AWS_ANNOTATION, aws_exchange, aws_managed, policy

if TYPE_CHECKING:
    from werkzeug import Request

    from credrotator.sandbox import RecordedRequest
    from credrotator.sandbox.issuer import Issuer
    from tests.support.kube.simulator import ApiServer
    from tests.support.parts.api import Json

HOSTILE = "hostile"
REGION, OTHER_REGION = "eu-central-1", "us-east-1"
ROLE = "arn:aws:iam::999999999999:role/hostile"
PATIENT_ROLE = "arn:aws:iam::888888888888:role/patient"
MEBIBYTE = 1_000_000
CLOSED = "https://localhost:1/token"

Remark = Callable[[], str]


@dataclass(frozen=True)
class Ground:
    """Where it takes place; ``metrics`` is the daemon's address."""

    sandbox: Sandbox
    server: ApiServer
    metrics: str

    def create(self, manifest: Json) -> None:
        """Create a policy."""
        self.server.create("backendsecuritypolicies", manifest)

    def hostile(self, count: int, *, region: str = REGION, role: str = ROLE, **provider: str) -> None:
        """Create hostile policies of one kind."""
        for number in range(count):
            self.create(aws(f"hostile-{number}", self.issuer(provider), role=role, region=region, **provider))

    def issuer(self, provider: dict[str, str]) -> str:
        """Return the issuer that is asked for, else the victims'."""
        return provider.pop("issuer", self.sandbox.issuer.url)

    def patch(self, name: str, patch: Json) -> None:
        """Edit a hostile policy."""
        self.server.patch("backendsecuritypolicies", name, patch, HOSTILE)


def aws(name: str, issuer: str, *, role: str = ROLE, region: str = REGION, **provider: str) -> Json:
    """Return a hostile policy; ``provider`` is what else stands beside the issuer."""
    exchange = {**aws_exchange(issuer, role, HOSTILE), "region": region}
    exchange["oidcExchangeToken"]["oidc"]["provider"] |= provider
    return policy(name, {"type": "AWSCredentials", "awsCredentials": exchange}, namespace=HOSTILE)


Attack = Callable[[Ground], AbstractContextManager[Remark]]


@dataclass(frozen=True)
class Line:
    """One line: its title, what it does, and which vendor new policies of others want."""

    title: str
    attack: Attack
    vendor: str = "aws"


def _nothing() -> str:
    return ""


def _of_hostile(request: RecordedRequest) -> bool:
    return ":999999999999:" in request.form.get("RoleArn", "")


def _of_patient(request: RecordedRequest) -> bool:
    return request.form.get("RoleArn") == PATIENT_ROLE


def _asked(ground: Ground, wanted: Callable[[RecordedRequest], bool] = _of_hostile) -> Remark:
    """Count the requests for the hostile role from now on."""
    before = ground.sandbox.sts.requests.total

    def remark() -> str:
        new = list(ground.sandbox.sts.requests)[before - ground.sandbox.sts.requests.total :]
        return f"{sum(wanted(request) for request in new)} requests for the hostile account"

    return remark


@contextlib.contextmanager
def throttled_account(ground: Ground) -> Iterator[Remark]:
    """Fifty policies whose own account is throttled."""
    with ground.sandbox.sts.faults.add(ServiceError("Throttling"), when=_of_hostile):
        remark = _asked(ground)
        ground.hostile(50)
        yield remark


@contextlib.contextmanager
def retry_after(ground: Ground) -> Iterator[Remark]:
    """One policy that is asked to wait for an hour; its account has the circuit for that long, in later lines too."""
    with ground.sandbox.sts.faults.add(Answer(503, retry_after=3600), when=_of_patient):
        remark = _asked(ground, _of_patient)
        ground.hostile(1, role=PATIENT_ROLE)
        yield remark


def token_endpoint(make: Callable[[Ground], contextlib.AbstractContextManager[str]]) -> Attack:
    """Return an attack of a hundred policies that name the victims' issuer with a token endpoint of their own."""

    @contextlib.contextmanager
    def attack(ground: Ground) -> Iterator[Remark]:
        with make(ground) as endpoint:
            ground.hostile(100, tokenEndpoint=endpoint)
            yield _nothing

    return attack


@contextlib.contextmanager
def closed(_: Ground) -> Iterator[str]:
    """A port where nobody listens."""
    yield CLOSED


@contextlib.contextmanager
def dripping(ground: Ground) -> Iterator[str]:
    """A server that answers a byte a second."""
    issuer = ground.sandbox.add_issuer()
    with issuer.faults.add(Drip()):
        yield f"{issuer.url}/token"


@contextlib.contextmanager
def web_page(ground: Ground) -> Iterator[str]:
    """Another page of the victims' own issuer."""
    page = Answer(200, "<html>Welcome</html>", "text/html")
    with ground.sandbox.issuer.faults.add(page, path="/welcome"):
        yield f"{ground.sandbox.issuer.url}/welcome"


@contextlib.contextmanager
def wrong_secret(ground: Ground) -> Iterator[Remark]:
    """The victims' client with a wrong secret, which the issuer punishes with 429."""
    ground.server.patch("secrets", "issuer-client", _data("wrong"), HOSTILE)
    issuer = ground.sandbox.issuer
    basic = [f"Basic {base64.b64encode(text.encode()).decode()}" for text in ("credrotator:wrong",)]

    def is_wrong(request: RecordedRequest) -> bool:
        sent = request.headers.get("Authorization", "")
        return sent in basic or request.form.get("client_secret") == "wrong"

    with issuer.faults.add(Answer(429, retry_after=60), path="/token", when=is_wrong):
        ground.hostile(20)
        yield _nothing
    ground.server.patch("secrets", "issuer-client", _data(_right_secret(ground)), HOSTILE)


def _right_secret(ground: Ground) -> str:
    found = ground.server.get("secrets", "issuer-client", "victims")
    assert found is not None
    return base64.b64decode(found["data"]["client-secret"]).decode()


def _data(text: str) -> Json:
    return {"data": {"client-secret": base64.b64encode(text.encode()).decode()}}


def realm(fault: Fault) -> Attack:
    """Return an attack of policies of one realm of the victims' host that fails, from its discovery on."""

    @contextlib.contextmanager
    def attack(ground: Ground) -> Iterator[Remark]:
        with ground.sandbox.issuer.faults.add(fault, path="/realms/*"):
            ground.hostile(50, issuer=f"{ground.sandbox.issuer.url}/realms/hostile")
            yield _nothing

    return attack


@contextlib.contextmanager
def hanging_hosts(ground: Ground) -> Iterator[Remark]:
    """64 hosts that accept connections and say nothing."""
    with contextlib.ExitStack() as stack:
        for number in range(64):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
            ground.create(aws(f"hostile-{number}", f"https://localhost:{listening.getsockname()[1]}"))
        yield _nothing


@contextlib.contextmanager
def thousand(ground: Ground) -> Iterator[Remark]:
    """A thousand new policies that work."""
    ground.sandbox.sts.roles[ROLE] = Role(ground.sandbox.issuer.url, forced_life=timedelta(hours=1))
    ground.hostile(1000)
    yield lambda: f"{_published(ground)} of 1000 published meanwhile"
    del ground.sandbox.sts.roles[ROLE]


def _published(ground: Ground) -> int:
    return sum(item["metadata"]["name"].startswith("ai-eg-") for item in ground.server.items("secrets", HOSTILE))


@contextlib.contextmanager
def hanging_vendor(ground: Ground) -> Iterator[Remark]:
    """STS hangs in one region, for policies of two issuers that are well."""
    second = ground.sandbox.add_issuer()
    with ground.sandbox.sts.faults.add(Hang(), when=_of_hostile):
        for number in range(40):
            issuer = (ground.sandbox.issuer, second)[number % 2]
            ground.create(aws(f"hostile-{number}", issuer.url, region=OTHER_REGION))
        yield _nothing


@contextlib.contextmanager
def denied(ground: Ground) -> Iterator[Remark]:
    """300 policies that are denied, beside some whose region is throttled now and then."""
    ground.hostile(300)
    for number in range(20):
        role = ROLE.replace("hostile", "throttled")
        ground.create(aws(f"throttled-{number}", ground.sandbox.issuer.url, role=role, region=OTHER_REGION))
    with ground.sandbox.sts.faults.add(ServiceError("Throttling"), when=_is_throttled):
        yield _asked(ground)


def _is_throttled(request: RecordedRequest) -> bool:
    return request.form.get("RoleArn", "").endswith("/throttled") and int(time.monotonic()) % 4 < 2


@contextlib.contextmanager
def yaml_annotations(ground: Ground) -> Iterator[Remark]:
    """Annotations of YAML merge keys, and of 256 KiB, edited all the time."""
    multiplied = (f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}" for level in range(1, 10))
    levels = ["a0: &a0 {k: v}", *multiplied]
    texts = ["\n".join(levels), json.dumps({"region": REGION, "more": ["x" * 60] * 4000})]
    ground.create(aws_managed("managed-hostile", ground.sandbox.issuer.url, namespace=HOSTILE))

    def edit(number: int) -> None:
        text = f"{texts[number % 2]}\n# {number}" if number % 2 == 0 else f"{texts[1]} "
        ground.patch("managed-hostile", {"metadata": {"annotations": {AWS_ANNOTATION: text, "n": str(number)}}})

    with _repeated(edit, 0.2):
        yield _nothing


@dataclass(frozen=True)
class Big(Fault):
    """Discovery and tokens of a megabyte, whatever the path."""

    kind: ClassVar[str] = "answer"
    issuer: Issuer

    def answer(self, request: Request, _server: Any, /) -> Response:
        """Return as much as may be read."""
        issuer = f"{self.issuer.url}{request.path.removesuffix('/.well-known/openid-configuration')}"
        document = {"issuer": issuer, "token_endpoint": f"{issuer}/token", "access_token": "x" * MEBIBYTE}
        return Response(json.dumps(document), 200, content_type="application/json")


@contextlib.contextmanager
def big_answers(ground: Ground) -> Iterator[Remark]:
    """300 policies with discovery and tokens of 1 MB, and one whose path is edited all the time."""
    issuer = ground.sandbox.add_issuer()
    with issuer.faults.add(Big(issuer)):
        for number in range(300):
            ground.create(aws(f"hostile-{number}", f"{issuer.url}/realm/{number}"))

        def edit(number: int) -> None:
            ground.patch("hostile-0", {"spec": aws("hostile-0", f"{issuer.url}/edited/{number}")["spec"]})

        with _repeated(edit, 0.25):
            yield lambda: f"{issuer.requests.total} requests to its issuer"


@contextlib.contextmanager
def regions(ground: Ground) -> Iterator[Remark]:
    """Five hundred invented regions, twenty a second."""
    ground.create(aws("hostile-0", ground.sandbox.issuer.url))
    remark = _asked(ground)

    def edit(number: int) -> None:
        ground.patch("hostile-0", {"spec": {"awsCredentials": {"region": f"xx-place-{number}"}}})

    with _repeated(edit, 0.05):
        # The policies are refused as written: nobody is asked about a place that is none.
        yield lambda: f"{remark()}: no such region is asked"


@contextlib.contextmanager
def other_writer(ground: Ground) -> Iterator[Remark]:
    """Another writer that puts the label of a Secret back each time."""
    ground.sandbox.sts.roles[ROLE] = Role(ground.sandbox.issuer.url, forced_life=timedelta(hours=1))
    ground.hostile(1)
    secret = "ai-eg-bsp-hostile-0"

    def restore(_: int) -> None:
        found = ground.server.get("secrets", secret, HOSTILE)
        if found and MANAGED_BY in found["metadata"].get("labels", {}):
            ground.server.patch("secrets", secret, {"metadata": {"labels": {MANAGED_BY: None}}}, HOSTILE)

    with _repeated(restore, 0.01):
        yield lambda: _writes(ground, secret)
    del ground.sandbox.sts.roles[ROLE]


def _writes(ground: Ground, secret: str) -> str:
    """Count what the daemon wrote, and apart from it what came to nothing since the other writer was quicker."""
    seen = ground.server.seen("*", "secrets", namespace=HOSTILE)
    writes = [each for each in seen if each.verb in {"create", "update", "patch"} and secret in _named(each)]
    conflicts = sum(each.status == CONFLICT for each in writes)
    return f"{len(writes) - conflicts} writes of that Secret, and {conflicts} that the other writer forestalled"


def _named(request: Any) -> str:
    return str(request.name or ((request.body or {}).get("metadata") or {}).get("name"))


@contextlib.contextmanager
def slow_connections(ground: Ground) -> Iterator[Remark]:
    """Slow connections to the port of the metrics, as many as this process may have."""
    host, _, port = ground.metrics.rpartition(":")
    longest_s = [0.0]

    def probe(_: int) -> None:
        began_s = time.monotonic()
        with urllib.request.urlopen(f"http://{ground.metrics}/healthz", timeout=10) as answer:
            answer.read()
        longest_s[0] = max(longest_s[0], time.monotonic() - began_s)

    with contextlib.ExitStack() as stack:
        for _ in range(700):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        with _repeated(probe, 0.5):
            yield lambda: f"/healthz answered within {longest_s[0]:.1f} s"


@contextlib.contextmanager
def _repeated(act: Callable[[int], None], every_s: float) -> Iterator[None]:
    """Do something again and again, in a thread, until the end of the block."""
    stopping = threading.Event()

    def repeat() -> None:
        number = 0
        while not stopping.wait(every_s):
            act(number)
            number += 1

    thread = threading.Thread(target=repeat, name="hostile")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@contextlib.contextmanager
def nothing(_: Ground) -> Iterator[Remark]:
    """Nothing."""
    yield _nothing


LINES = (
    Line("nothing, to compare with", nothing),
    Line("50 policies whose own account is throttled", throttled_account),
    Line("one policy with a Retry-After of an hour", retry_after),
    Line("100 policies with the victims' issuer and a token endpoint at a closed port", token_endpoint(closed)),
    Line("the same, with a token endpoint that drips", token_endpoint(dripping)),
    Line("the same, with a web page of the victims' issuer", token_endpoint(web_page)),
    Line("a wrong secret for the victims' client, punished with 429", wrong_secret),
    Line("50 policies of a realm of the victims' host that answers 500", realm(Answer(500))),
    Line("50 policies of a realm of the victims' host whose discovery hangs", realm(Hang())),
    Line("64 hosts that hang", hanging_hosts),
    Line("1000 new policies", thousand),
    Line("STS hangs in one region; a new policy of another vendor", hanging_vendor, "azure"),
    Line("300 denied policies beside a throttled region", denied),
    Line("annotations with merge keys and of 256 KiB, edited 5 times a second", yaml_annotations),
    Line("discovery and tokens of 1 MB from 300 policies, paths edited 4 times a second", big_answers),
    Line("500 edits to invented regions", regions),
    Line("another writer that takes a Secret's label away each time", other_writer),
    Line("700 slow connections to the metrics port", slow_connections),
)
