"""MinIO: an STS that verifies the web identity token, and a service that checks the credentials it issued."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import boto3
from botocore.config import Config

from tests.e2e.published import AwsCredential
from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import build
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

_VERSION = "20260212"


@dataclass(frozen=True)
class Trust:
    """Which tokens the STS trusts, and what they may become.

    With `role_policy` None the token's own claim `claim` says what the session may do and every role ARN is
    taken. Otherwise a role exists for this provider, and only its ARN is.
    """

    discovery: str
    audience: str
    role_policy: str | None = None
    claim: str = "policy"

    def as_environment(self) -> Mapping[str, str]:
        """Return the settings of an OpenID provider; its discovery document must be up when MinIO starts."""
        prefix = "MINIO_IDENTITY_OPENID_"
        what = {"ROLE_POLICY": self.role_policy} if self.role_policy else {"CLAIM_NAME": self.claim}
        settings = {"CONFIG_URL": self.discovery, "CLIENT_ID": self.audience, "CLIENT_SECRET": "unused", **what}
        return {prefix + name: value for name, value in settings.items()}


@dataclass(frozen=True)
class MinIO:
    """A running server; the same address speaks STS and S3."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def list_buckets(self, credential: AwsCredential) -> None:
        """Make one signed call.

        Raises:
            botocore.exceptions.ClientError: The server refuses the credential.
        """
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=credential.region,
            aws_access_key_id=credential.key_id,
            aws_secret_access_key=credential.secret,
            aws_session_token=credential.session_token,
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            client.list_buckets()
        finally:
            client.close()


def executable(cache: Cache) -> Path:
    """Return the server's program, built from its Go module on the first call."""
    return build(cache, "minio", package="github.com/minio/minio", version=_VERSION)


@contextmanager
def serving(program: Path, trust: Trust, *, directory: Path) -> Iterator[MinIO]:
    """Run the server with an empty store."""
    server = MinIO(free_port())
    environment = {
        "MINIO_ROOT_USER": "minioadmin",
        "MINIO_ROOT_PASSWORD": "minioadmin",
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        **trust.as_environment(),
    }
    argv = (str(program), "server", "--address", f"127.0.0.1:{server.port}", str(directory / "store"))
    with running("minio", *argv, directory=directory, env=environment) as process:
        process.wait_until(lambda: answers(f"{server.url}/minio/health/ready"), within=timedelta(minutes=1))
        yield server
