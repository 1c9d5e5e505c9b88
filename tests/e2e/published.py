"""What credrotator has published in a directory, read as a gateway would read it."""

import configparser
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_PROFILE = "default"


@dataclass(frozen=True)
class AwsCredential:
    """A session credential out of a shared-credentials file."""

    key_id: str
    secret: str
    session_token: str
    region: str

    @classmethod
    def parse(cls, text: str) -> "AwsCredential":
        """Read the one profile of the file."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        profile = parser[_PROFILE]
        return cls(
            key_id=profile["aws_access_key_id"],
            secret=profile["aws_secret_access_key"],
            session_token=profile["aws_session_token"],
            region=profile["region"],
        )


@dataclass(frozen=True)
class Published:
    """The `--out` directory of credrotator. Policies are named within the namespace `default`."""

    directory: Path

    @property
    def secrets(self) -> Path:
        """The Secrets of that namespace."""
        return self.directory / "default"

    def file(self, policy: str, key: str) -> Path:
        """Return the file of a Secret's key."""
        return self.secrets / f"ai-eg-bsp-{policy}" / key

    def aws(self, policy: str) -> AwsCredential:
        """Read the AWS credential of a policy."""
        return AwsCredential.parse(self.file(policy, "credentials").read_text())

    def token(self, policy: str) -> str:
        """Read the Entra access token of a policy."""
        return self.file(policy, "azureAccessToken").read_text()

    def all_aws(self) -> list[AwsCredential]:
        """Read the AWS credentials of all namespaces."""
        return [AwsCredential.parse(text) for text in self._everywhere("credentials")]

    def all_tokens(self) -> list[str]:
        """Read the Entra access tokens of all namespaces."""
        return self._everywhere("azureAccessToken")

    def generation(self, policy: str) -> "Generation":
        """Return which credential of a policy is published now, and since when."""
        aws = self.file(policy, "credentials")
        file = aws if aws.exists() else self.file(policy, "azureAccessToken")
        credential = self.aws(policy).key_id if file == aws else token_id(self.token(policy))
        return Generation(credential, datetime.fromtimestamp(file.stat().st_mtime, UTC))

    def _everywhere(self, key: str) -> list[str]:
        return [path.read_text() for path in sorted(self.directory.glob(f"*/ai-eg-bsp-*/{key}"))]


@dataclass(frozen=True)
class Generation:
    """One published credential of a policy."""

    credential: str
    published_at: datetime


def token_id(token: str) -> str:
    """Return a name for a bearer token that is safe to keep and to print."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]
