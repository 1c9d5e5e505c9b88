"""What the rest of credrotator asks of a provider; a class of it for each, in a package of its own.

Pure but for :meth:`Provider.vendor`, which imports the SDK. A new provider that lacks something cannot be made: the
methods are abstract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from credrotator.core.model import ObjectKey, Rotatable, Source
    from credrotator.exchange.vendors import Vendor, VendorContext
    from credrotator.policies import schema
    from credrotator.policies.managed import ManagedForm
    from credrotator.policies.reader import AnnotationUse, Reading


@dataclass(frozen=True, slots=True)
class OperatorOption:
    """Something that the operator sets for all policies of a provider.

    Attributes:
        name: As in ``--azure-scope``, and as the key of ``Defaults.options``.
        flag_help: Help text of the command line's option; empty where there is none.
        variable: A variable of the vendor's own that sets it; empty where there is none.
        parse: Checks the variable's text, and makes the option's value of it; raises UsageError.
    """

    name: str
    flag_help: str = ""
    variable: str = ""
    parse: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class SandboxServer:
    """The provider's server in the sandbox.

    Attributes:
        name: As in ``--sts-port``, and the attribute of ``Sandbox``.
        title: For people.
        port: Where it listens unless the command line says otherwise.
    """

    name: str
    title: str
    port: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What has to stand at the vendor for a policy's token to be accepted.

    Attributes:
        policy: Whose.
        source: What it asks for.
        document: The vendor's own JSON for it.
    """

    policy: ObjectKey
    source: Rotatable
    document: Mapping[str, object]


class Provider(ABC):
    """One provider; has no state."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the provider's name, unique and fit for machines."""

    @property
    @abstractmethod
    def policy_type(self) -> str:
        """Return the gateway's type (``spec.type``) whose block it reads."""

    @property
    @abstractmethod
    def sources(self) -> tuple[type[Rotatable], ...]:
        """List what it makes of a block that is to be rotated."""

    @property
    @abstractmethod
    def annotations(self) -> tuple[AnnotationUse, ...]:
        """List its own annotations on policies."""

    @property
    @abstractmethod
    def options(self) -> tuple[OperatorOption, ...]:
        """List what the operator may set."""

    @property
    @abstractmethod
    def managed(self) -> ManagedForm:
        """Return how its block stands in an annotation."""

    @property
    @abstractmethod
    def sandbox(self) -> SandboxServer | None:
        """Return the server of the sandbox that stands for the vendor; None where another provider's does."""

    @abstractmethod
    def read(self, reading: Reading, spec: schema.Spec) -> Source | None:
        """Check what the block's fields mean together; None only where the block is not there."""

    @abstractmethod
    def vendor(self, context: VendorContext) -> Vendor:
        """Return the vendor's side of exchanges; the first call imports the SDK (0.1..0.2 s)."""

    @property
    @abstractmethod
    def advice_member(self) -> str:
        """Return the member of ``check -o json`` that holds its advice; empty where it never has any."""

    @property
    @abstractmethod
    def advice_title(self) -> str:
        """Say what the advice is, for people."""

    # Not abstract, as are the ones below: most providers need nothing there, and one that forgets it loses advice only.
    def advised(self, source: Rotatable) -> Rotatable:
        """Return the source that advice is about: another provider's, where an exchange begins as one of that."""
        return source

    @abstractmethod
    def advise(self, policy: ObjectKey, source: Rotatable, claims: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return what has to stand at the vendor for a token with these claims, as its own JSON; None: nothing."""

    @property
    def further_advice(self) -> Mapping[str, str]:
        """Return titles of what else has to stand there for some policies, by the member of ``check -o json``."""
        return {}

    def advise_further(self, source: Rotatable) -> Mapping[str, object]:  # noqa: ARG002 - most need nothing else
        """Return what else has to stand at the vendor for a policy, by the members of ``further_advice``."""
        return {}

    @property
    @abstractmethod
    def terraform_requirement(self) -> tuple[str, str] | None:
        """Return the Terraform provider that ``terraform`` needs: its local name, and its requirement as HCL.

        None where there is none for the vendor: what ``terraform`` returns are comments.
        """

    @abstractmethod
    def terraform(self, advice: Iterable[Advice]) -> str:
        """Return the advice for all policies of this provider as Terraform, in blocks with an empty line between."""
