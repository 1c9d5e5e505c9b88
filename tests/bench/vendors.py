"""OIDC issuers and an STS that cost next to nothing: what is measured is who calls them, not they.

They sign and verify nothing; the sandbox does that, at a millisecond a call, and would be the bottleneck here. One
thread, one event loop, one TLS listener; every answer waits for a settable latency without holding up the others. The
counters are the benchmark's judge of how often each rotator calls.

Run as a child process, ``python -m tests.bench.vendors CERTIFICATE KEY``; it prints its port, and is told and asked by
HTTP as well: ``POST /bench/settings`` and ``GET /bench/counts``.
"""

import asyncio
import base64
import contextlib
import json
import random
import ssl
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

DISCOVERY = "/.well-known/openid-configuration"
ISSUERS = "/issuers/"
_AUDIENCE = "sts.amazonaws.com"
_TOKEN_LIFE_S = 3600
_HANG_S = 3600
# A request may be about to be answered when the client is gone; nothing here is worth a traceback.
_GONE = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)


@dataclass
class Settings:
    """How the vendors behave.

    Attributes:
        latency_s: How long every answer takes.
        life_s: For how long credentials live: anything between these two, evenly spread.
        hung: Names of issuers that take connections and answer nothing.
    """

    latency_s: float = 0.0
    life_s: tuple[float, float] = (3600.0, 3600.0)
    hung: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Counts:
    """What was asked for since the last reset; ``first_at`` is when the first of it came, in Unix time."""

    discovery: int = 0
    token: int = 0
    exchange: int = 0
    first_at: float = 0.0
    cpu_s: float = 0.0


class Vendors:
    """The issuers and the STS behind one listener."""

    def __init__(self) -> None:
        self.url = ""
        self.settings = Settings()
        self._counts: Counter[str] = Counter()
        self._first_at = 0.0
        self._random = random.Random(1)  # noqa: S311 - lives are to differ, not to surprise

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection in turn (HTTP/1.1 with Content-Length is all that comes)."""
        with contextlib.suppress(*_GONE):
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *fields = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
                body = await reader.readexactly(int(headers.get("content-length") or 0))
                method, path, _ = line.split(" ", 2)
                kind, answer = await self._answer(method, path, body.decode())
                length = f"Content-Type: {kind}\r\nContent-Length: {len(answer)}\r\nDate: {_http_date()}\r\n"
                writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + answer)
                await writer.drain()
        with contextlib.suppress(*_GONE):
            writer.close()

    async def _answer(self, method: str, path: str, body: str) -> tuple[str, bytes]:
        if path.startswith("/bench/"):
            return "application/json", self._control(method, path, body)
        self._first_at = self._first_at or time.time()
        if path.startswith(ISSUERS):
            name, _, rest = path.removeprefix(ISSUERS).partition("/")
            if name in self.settings.hung:
                # Not for ever: what waits for nothing at all is collected as garbage, and its connection closed.
                await asyncio.sleep(_HANG_S)
            self._counts["discovery" if f"/{rest}" == DISCOVERY else "token"] += 1
            await self._take_time()
            issuer = f"{self.url}{ISSUERS}{name}"
            document = _discovery(issuer) if f"/{rest}" == DISCOVERY else _token(issuer)
            return "application/json", json.dumps(document).encode()
        self._counts["exchange"] += 1
        number = self._counts["exchange"]
        await self._take_time()
        return "text/xml", self._credentials(parse_qs(body), number)

    async def _take_time(self) -> None:
        if self.settings.latency_s:
            await asyncio.sleep(self.settings.latency_s)

    def _control(self, method: str, path: str, body: str) -> bytes:
        if method == "POST":
            self.settings = Settings(**json.loads(body))
            self._counts.clear()
            self._first_at = 0.0
        return json.dumps(asdict(Counts(**self._counts, first_at=self._first_at, cpu_s=time.process_time()))).encode()

    def _credentials(self, asked: dict[str, list[str]], number: int) -> bytes:
        role, session = asked["RoleArn"][0], asked["RoleSessionName"][0]
        life = timedelta(seconds=self._random.uniform(*self.settings.life_s))
        expires = f"{datetime.now(UTC) + life:%Y-%m-%dT%H:%M:%SZ}"
        arn = f"{role.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/{session}"
        return (
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIABENCH{number:011}</AccessKeyId>"
            f"<SecretAccessKey>{number:040}</SecretAccessKey><SessionToken>{'x' * 300}{number}</SessionToken>"
            f"<Expiration>{expires}</Expiration></Credentials><AssumedRoleUser><Arn>{arn}</Arn>"
            f"<AssumedRoleId>AROABENCH:{session}</AssumedRoleId></AssumedRoleUser><Audience>{_AUDIENCE}</Audience>"
            "</AssumeRoleWithWebIdentityResult><ResponseMetadata>"
            f"<RequestId>00000000-0000-0000-0000-{number:012}</RequestId></ResponseMetadata>"
            "</AssumeRoleWithWebIdentityResponse>"
        ).encode()


def _discovery(issuer: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


def _token(issuer: str) -> dict[str, object]:
    now = int(time.time())
    claims = {"iss": issuer, "sub": "bench", "aud": _AUDIENCE, "iat": now, "exp": now + _TOKEN_LIFE_S}
    unsigned = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    token = f"{unsigned}.{_base64url(bytes(256))}"
    return {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_LIFE_S}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _http_date() -> str:
    return f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}"


async def _run(certificate: str, key: str) -> None:
    vendors = Vendors()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(vendors.serve, "127.0.0.1", 0, ssl=context, backlog=1024)
    vendors.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    sys.stdout.write(f"{vendors.url}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
