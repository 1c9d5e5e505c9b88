"""A sandbox with an exchanger in front of it, policies that fit, and what every error must look like.

Owns the tests' vocabulary. Every refusal that a test sees is checked for the rules that hold for all of them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import traceback
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import PolicyError, RotationError
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import ObjectKey, OidcClient, SecretKeyRef, SubjectToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.exchange.issuers.routes import IssuerRoutes
from credrotator.providers import PROVIDERS
from credrotator.providers.aws.source import AwsCredential, AwsOidc
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc, AzureToken, EntraApp
from credrotator.providers.gcp.source import GcpPool, GcpServiceAccount, GcpToken, GcpWorkloadIdentity
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    Sandbox,
    ServiceAccount,
)
from credrotator.sandbox.keys import SigningKeys
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from joserfc.jwk import RSAKey

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import Rotatable
    from credrotator.core.ports import Clock
    from credrotator.sandbox.issuer import Issuer

POLICY = ObjectKey("team-a", "bedrock")
SCOPE = "https://cognitiveservices.azure.com/.default"
TOKEN, DISCOVERY = "/token", "/.well-known/openid-configuration"
ENTRA_TOKEN = "*/oauth2/v2.0/token"
GOOGLE_STS, GOOGLE_IAM, GOOGLE_TOKEN = "/v1/token", "*:generateAccessToken", "/token"
POOL = GcpPool("123456789012", "gateway", "idp")
POOL_AUDIENCE = f"https:{POOL.audience}"
REASON = re.compile(r"AADSTS\d{1,8}|[A-Z][A-Za-z]+[A-Za-z0-9]*")
LONGEST_MESSAGE = 1200


class MovableClock:
    """The real time plus ``offset``; the servers and the exchanger go by it."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


class FrozenClock:
    """A time that only a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def seconds(self) -> float:
        """Return seconds that only grow, as long as the test lets them."""
        return self.now.timestamp()


def key_ref(name: str, key: str = "client-secret") -> SecretKeyRef:
    """Refer to a key of a Secret in the policy's namespace."""
    return SecretKeyRef(ObjectKey(POLICY.namespace, name), key, f"spec.{name}")


@functools.cache
def service_account_key() -> tuple[str, dict[str, RSAKey]]:
    """Return a key file of the sandbox's service account, and its key; made once, it takes a moment."""
    account = ServiceAccount()
    return account.new_key(DEFAULT_ACCOUNT), account.keys


@dataclass
class Backend:
    """The sandbox, the clock, and what the policies' Secrets hold (by Secret name)."""

    sandbox: Sandbox
    clock: MovableClock
    values: dict[str, str] = field(
        default_factory=lambda: {"oidc": DEFAULT_CLIENT_SECRET, "entra": DEFAULT_APP_SECRET, "id": DEFAULT_CLIENT}
    )

    def exchanger(
        self,
        *allowed: str,
        ca_file: str | None = "",
        timeout_s: float = LIMIT_S,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        routes: IssuerRoutes | None = None,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
    ) -> Exchanger:
        """Make an exchanger; its allowed issuers are the sandbox's own, where none are given."""
        globs = allowed or tuple(issuer.url for issuer in self.sandbox.issuers)
        file = str(self.sandbox.ca_file) if ca_file == "" else ca_file
        settings = ExchangeSettings(AllowedIssuers(globs), file, timedelta(seconds=timeout_s), routes or IssuerRoutes())
        present = clock or self.clock
        found = self._vendors() | dict(environment or {})
        return Exchanger(settings, present, PROVIDERS, found, instrumentation, seconds=lambda: present().timestamp())

    def unlisted(
        self, instrumentation: Instrumentation = NO_INSTRUMENTATION, routes: IssuerRoutes | None = None
    ) -> Exchanger:
        """Make an exchanger whose operator names no issuers."""
        settings = ExchangeSettings(ca_file=str(self.sandbox.ca_file), routes=routes or IssuerRoutes())
        return Exchanger(settings, self.clock, PROVIDERS, self._vendors(), instrumentation)

    def _vendors(self) -> dict[str, str]:
        """Return where Google is; the others are found by the process's environment, or by the policy."""
        return {name: url for name, url in self.sandbox.environment().items() if name.startswith("CLOUDSDK_")}

    def secrets(self, ref: SecretKeyRef) -> Sensitive:
        """Read what a policy refers to."""
        try:
            return Sensitive(self.values[ref.secret.name])
        except KeyError as error:
            hint = "create the Secret"
            raise PolicyError("SecretMissing", f"there is no Secret {ref.secret}", hint=hint) from error

    def oidc(self, **changes: Any) -> OidcClient:
        """Describe the default client's token request, with some fields changed."""
        return replace(OidcClient(self.sandbox.issuer.url, DEFAULT_CLIENT, key_ref("oidc")), **changes)

    def aws(self, **changes: Any) -> AwsOidc:
        """Describe an AWS policy that the sandbox's STS serves."""
        return replace(AwsOidc(self.oidc(), DEFAULT_ROLE, "eu-central-1"), **changes)

    def app(self, **changes: Any) -> EntraApp:
        """Describe the sandbox's application in Entra."""
        return replace(EntraApp(DEFAULT_TENANT, DEFAULT_APP, self.sandbox.entra.url, SCOPE), **changes)

    def azure(self, **changes: Any) -> AzureOidc:
        """Describe an Azure policy with a federated assertion."""
        return AzureOidc(self.oidc(audience="api://AzureADTokenExchange"), self.app(**changes))

    def azure_secret(self, **changes: Any) -> AzureClientSecret:
        """Describe an Azure policy with a client secret."""
        return AzureClientSecret(self.app(**changes), key_ref("entra"))

    def gcp(self, **changes: Any) -> GcpWorkloadIdentity:
        """Describe a policy with workload identity that the sandbox's Google Cloud serves, impersonation included."""
        oidc = self.oidc(audience=POOL_AUDIENCE)
        found = GcpWorkloadIdentity(oidc, POOL, "sandbox-project", "us-central1", DEFAULT_ACCOUNT)
        return replace(found, **changes)

    def gcp_key(self, **changes: str | None) -> GcpServiceAccount:
        """Describe a policy with a service account's key file, some members of which are changed (None: removed)."""
        content, keys = service_account_key()
        self.sandbox.google.accounts[DEFAULT_ACCOUNT].keys |= keys
        whole = json.loads(content) | changes
        self.values["gcp"] = json.dumps({name: value for name, value in whole.items() if value is not None})
        return GcpServiceAccount(key_ref("gcp", "service_account.json"))

    def exchange_gcp(
        self, source: GcpWorkloadIdentity | GcpServiceAccount | None = None, exchanger: Exchanger | None = None
    ) -> GcpToken:
        """Get a token of Google Cloud, by workload identity where ``source`` does not say otherwise."""
        found = (exchanger or self.exchanger())(POLICY, source or self.gcp(), self.secrets)
        assert isinstance(found, GcpToken)
        return found

    def token(self, exchanger: Exchanger | None = None, **changes: Any) -> SubjectToken:
        """Get the issuer's token for the default client, some fields changed."""
        exchanger = exchanger or self.exchanger()
        return exchanger.issuers.subject_token(exchanger.token_request(POLICY, self.oidc(**changes), self.secrets))

    def exchange_aws(self, exchanger: Exchanger | None = None, **changes: Any) -> AwsCredential:
        """Get an AWS credential."""
        found = (exchanger or self.exchanger())(POLICY, self.aws(**changes), self.secrets)
        assert isinstance(found, AwsCredential)
        return found

    def exchange_azure(
        self, source: AzureOidc | AzureClientSecret | None = None, exchanger: Exchanger | None = None
    ) -> AzureToken:
        """Get an Entra token, by assertion where ``source`` does not say otherwise."""
        found = (exchanger or self.exchanger())(POLICY, source or self.azure(), self.secrets)
        assert isinstance(found, AzureToken)
        return found

    def exchange(self, source: Rotatable, exchanger: Exchanger) -> object:
        """Get whatever credential the policy asks for."""
        return exchanger(POLICY, source, self.secrets)

    @property
    def issuer(self) -> Issuer:
        """The sandbox's first issuer."""
        return self.sandbox.issuer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Run a sandbox for the length of a test; elliptic keys, which are made in no time."""
    clock = MovableClock()
    sandbox = Sandbox(tmp_path / "sandbox", clock=clock, algorithm="ES256")
    sandbox.entra.keys = SigningKeys("ES256")
    with sandbox:
        # The SDK of AWS reads its variables from the process, whatever the exchanger is given.
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sandbox.sts.url)
        yield Backend(sandbox, clock)


@contextlib.contextmanager
def refused(kind: type[RotationError], reason: str) -> Iterator[pytest.ExceptionInfo[RotationError]]:
    """Expect a refusal of that class and reason, fit to be shown."""
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.reason == reason, caught.value.message
    check_showable(caught.value)


def check_showable(error: RotationError, *secrets: str) -> None:
    """I9 and the house rules: a reason for machines, one line for people, a hint, no secret in any rendering."""
    assert REASON.fullmatch(error.reason), error.reason
    assert error.hint.strip()
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert len(error.message) < LONGEST_MESSAGE
    rendered = "".join([str(error), repr(error), error.hint, *traceback.format_exception(error)])
    for secret in (DEFAULT_CLIENT_SECRET, DEFAULT_APP_SECRET, *secrets):
        assert secret not in rendered
    assert not re.search(r"eyJ[\w-]{8,}\.eyJ", rendered), "a token shows"
    assert "ya29." not in rendered, "a token shows"
    assert "PRIVATE KEY" not in rendered, "a key shows"
