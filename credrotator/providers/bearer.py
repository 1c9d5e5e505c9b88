"""What providers have in common whose credential is a token that the gateway sends as ``Authorization: Bearer``.

Such a provider's block stands in an annotation: the gateway's API does not have it. The gateway sees a policy of type
APIKey. Pure; the exchange itself is each provider's.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from credrotator.core.claims import claim_time, read_claims
from credrotator.core.errors import printable
from credrotator.core.model import Rotatable, SourceKind
from credrotator.exchange.token_values import DATA_KEY, TOKEN
from credrotator.policies.annotations import PREFIX
from credrotator.policies.managed import ManagedForm
from credrotator.policies.reader import AnnotationUse, OwnReading
from credrotator.providers.provider import Advice, OperatorOption, Provider, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from credrotator.core.model import SecretKeyRef, Source, TokenSource
    from credrotator.core.sensitive import Sensitive
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading

EXCHANGE_FIELD = "oidcExchangeToken"


def bearer_kind(provider: str) -> SourceKind:
    """Describe sources whose credential is a Bearer token; ``provider``: see ``SourceKind``."""
    return SourceKind(provider=provider, data_key=DATA_KEY, heard_by_name=False, overriding_variables=())


class BearerSource(Rotatable):
    """A source whose published value is a token."""

    __slots__ = ()
    oidc: TokenSource

    @property
    def token_source(self) -> TokenSource:
        """See ``Rotatable``."""
        return self.oidc

    @property
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """See ``Rotatable``."""
        return ()

    def unusable(self, value: Sensitive) -> str | None:
        """See ``Rotatable``: what no header can carry is no token."""
        # A line end in a value would end the header in the filter and begin one of the author's choice.
        return None if TOKEN.fullmatch(value.reveal()) else "it has characters in it that no token has"

    def own_expiry(self, value: Sensitive) -> datetime | None:
        """See ``Rotatable``: a JWT may tell."""
        # Read without a check of the signature: it decides only when a Secret of which the annotations are lost is
        # renewed.
        return claim_time(read_claims(value), "exp")


class BearerProvider(Provider):
    """A provider whose block stands in an annotation, and whose credential the gateway takes as an API key."""

    policy_type = ""
    annotations: tuple[AnnotationUse, ...] = ()
    options: tuple[OperatorOption, ...] = ()
    sandbox: SandboxServer | None = None
    terraform_requirement: tuple[str, str] | None = None
    console: ClassVar[str] = ""
    """Where people enter what is advised, for comments in Terraform."""

    @property
    @abstractmethod
    def managed(self) -> ManagedForm:
        """See ``Provider``; made by ``bearer_form``."""

    def read(self, reading: Reading, spec: schema.Spec) -> Source | None:  # noqa: ARG002 - there is no such block
        """See ``Provider``: the gateway's API has nothing for it."""
        return None

    def terraform(self, advice: Iterable[Advice]) -> str:
        """See ``Provider``: no Terraform provider knows the vendor, so these are comments."""
        # Comments rather than nothing: the file then has all that is needed, and who reads the plan finds what
        # Terraform cannot do.
        return "\n".join(self._comment(each) for each in advice)

    def _comment(self, advice: Advice) -> str:
        lines = [f"For {printable(advice.policy)}; no Terraform provider has it. Enter it {self.console}:"]
        lines += json.dumps(advice.document, indent=2).splitlines()
        return "".join(f"# {line}\n" for line in lines)


def bearer_form(
    annotation: str,
    block: type[schema.OwnBlock],
    read: Callable[[Reading, Any, str], Rotatable],
    *,
    rotatable: str = EXCHANGE_FIELD,
    headers: Mapping[str, str] | None = None,
) -> ManagedForm:
    """Make the managed form of a block that the gateway's API does not have.

    Args:
        annotation: Its name, without the prefix.
        block: Its fields.
        read: Checks what they mean together; the last argument is the path of the block.
        rotatable: The fields that ask for something to rotate, for people.
        headers: What each request needs beside the credential.
    """
    first, *rest = annotation.split("-")
    name = first + "".join(map(str.capitalize, rest))
    return ManagedForm(
        annotation=PREFIX + annotation,
        # No type of the gateway's API has the block, so a form without the annotation cannot be converted into this
        # one.
        policy_type="",
        block=name,
        carrier="api-key",
        expected="type APIKey with apiKey.secretRef",
        rotatable=rotatable,
        carry=None,
        own=OwnReading(name, block, read),
        headers=headers or {},
    )
