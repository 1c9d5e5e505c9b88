"""Policies with nothing to rotate: static ones, those of a newer gateway, and those that cannot work as written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.errors import PolicyError
from credrotator.core.model import InvalidPolicy, Rotatable, Source, Unsupported
from credrotator.core.outcome import Failure, Outcome
from credrotator.core.profiles import read_profile

if TYPE_CHECKING:
    from credrotator.core.ports import SecretReader


def static_reason(source: Source) -> str:
    """Say why nothing is rotated."""
    if isinstance(source, Unsupported):
        return "NotSupported"
    return "Static" if source.references else "DefaultChain"


def check_static(source: Source, secrets: SecretReader) -> None:
    """See that what a policy without rotation names is there.

    Raises:
        PolicyError: It is not.
    """
    if isinstance(source, Rotatable) or source.secret is None:
        return
    value = secrets(source.secret)
    if source.profile and read_profile(value.reveal(), source.profile) is None:
        raise PolicyError(
            "ProfileMissing",
            f"Secret {source.secret.secret}, key {source.secret.key}, has no profile {source.profile}",
            hint="correct credentialsFile.profile, or add the profile to the file",
        )


def invalid(policy: InvalidPolicy) -> Outcome:
    """Describe a policy that cannot work as written."""
    return Outcome(policy.key, policy.provider, "failed", "InvalidPolicy", error=invalid_failure(policy))


def invalid_failure(policy: InvalidPolicy) -> Failure:
    """Say why a policy cannot work as written."""
    message = "; ".join(map(str, policy.problems))
    return Failure("policy", "InvalidPolicy", message, f"correct the policy in {policy.origin}")
