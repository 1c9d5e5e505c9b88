"""What a version of the gateway's API lets a policy say, where that differs between releases of the gateway. Pure.

``v1beta1`` is the same in all releases that serve it (v0.6 and later). ``v1alpha1`` grew: v0.2 has three types and no
``targetRefs``, v0.3 adds ``targetRefs``, Google Cloud and the rule that a policy has no mechanism but its type's, v0.4
adds the keys of Azure and Anthropic, v0.5 InferencePools. Which it is, the API server tells; else, what the policy
itself uses. Source: Envoy AI Gateway, ``api/v1alpha1/backendsecurity_policy.go`` of v0.2 to v1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable
from credrotator.core.model import Problem
from credrotator.policies import schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credrotator.policies.manifest import Manifest

ALPHA = f"{schema.GROUP}/v1alpha1"
_FIRST_FIELDS = {"type", *(schema.MECHANISMS[kind].block for kind in schema.FIRST_TYPES)}


@dataclass(frozen=True, slots=True)
class ServedSchema:
    """The ``v1alpha1`` that one API server serves, as far as its releases differ.

    Attributes:
        types: Values of ``spec.type``.
        targets: There is ``spec.targetRefs``: it is the API of v0.3 or later.
    """

    types: tuple[str, ...]
    targets: bool


def is_alpha(manifest: Manifest) -> bool:
    """Tell whether a policy is of ``v1alpha1``."""
    return manifest.get("apiVersion") == ALPHA


def is_exclusive(manifest: Manifest, served: ServedSchema | None) -> bool:
    """Tell whether a policy may have no mechanism but its type's.

    Every server sees to it: v0.2 by the number of fields, later releases by rules. Only where nobody said what is
    served, a second mechanism may be one that the gateway of v0.2 ignores.

    Args:
        manifest: The policy.
        served: What the API server serves; None where nobody said.
    """
    if not is_alpha(manifest):
        return True
    return served is not None or _is_later(manifest)


def contradicts(manifest: Manifest, served: ServedSchema | None) -> bool:
    """Tell whether a policy of the API server is none that its schema allows: that is out of date, then.

    A server that has just been given the definition tells its schema a second later, so none contradicts too.
    """
    if not is_alpha(manifest):
        return False
    if served is None:
        return True
    kind = _spec(manifest).get("type")
    known = kind in served.types or not isinstance(kind, str)
    return not known or (_is_later(manifest) and not served.targets)


def schema_problems_of(manifest: Manifest, served: ServedSchema | None) -> Iterator[Problem]:
    """Say which type of a policy is not known to the gateway whose API is served."""
    kind = _spec(manifest).get("type")
    if served and is_alpha(manifest) and kind in schema.MECHANISMS and kind not in served.types:
        known = ", ".join(printable(name, 80) for name in served.types)
        yield Problem(
            "spec.type", f"expected one of {known}, which the v1alpha1 of this cluster's gateway has, got {kind}"
        )


def dropped_fields(manifest: Manifest) -> Iterator[str]:
    """Name, as warnings, fields of later versions that the API server does not keep in a policy of ``v1alpha1``."""
    if is_alpha(manifest) and _spec(manifest).get("credentialOverride") is not None:
        beta = f"{schema.GROUP}/v1beta1"
        why = "v1alpha1 has no such field, so the API server drops it"
        yield f"spec.credentialOverride: {why}; write apiVersion {beta}"


def _is_later(manifest: Manifest) -> bool:
    """Tell whether a policy uses something that came after v0.2."""
    spec = _spec(manifest)
    kind = spec.get("type")
    later = (name for name in schema.SPEC_FIELDS if name not in _FIRST_FIELDS and spec.get(name) is not None)
    return (isinstance(kind, str) and kind in schema.MECHANISMS and kind not in schema.FIRST_TYPES) or any(later)


def _spec(manifest: Manifest) -> Mapping[str, Any]:
    spec = manifest.get("spec")
    return spec if isinstance(spec, dict) else {}
