"""What of a policy only a newer gateway knows. Pure.

Such a policy is left alone: to call it wrong would be wrong as soon as the gateway is newer than we are.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable
from credrotator.core.model import Policy, Unsupported
from credrotator.policies import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey
    from credrotator.policies.manifest import Manifest

SERVED = tuple(f"{schema.GROUP}/{version}" for version in schema.VERSIONS)
_VERSION = re.compile(rf"{re.escape(schema.GROUP)}/v[0-9]+((alpha|beta)[0-9]+)?")
_TYPE = re.compile(r"[A-Z][A-Za-z0-9]{3,62}")
# Stricter than for fields: a new type may well resemble an old one (AzureAPIKey, GoogleAPIKey).
_SLIP = 0.85


def newer_part(manifest: Manifest) -> str | None:
    """Name what is not known of a policy, as it may be of a newer gateway; None where a mistake is likelier."""
    version, spec = manifest.get("apiVersion"), manifest.get("spec")
    if isinstance(version, str) and _VERSION.fullmatch(version) and version not in SERVED:
        return f"apiVersion {printable(version, 80)}"
    fields: Mapping[str, Any] = spec if isinstance(spec, dict) else {}
    kind = fields.get("type")
    if not isinstance(kind, str):
        return None
    mechanism = schema.MECHANISMS.get(kind)
    return _newer_field(fields, mechanism) if mechanism else _newer_type(fields, kind)


def unsupported(manifest: Manifest, key: ObjectKey, origin: str, why: str) -> Policy:
    """Return a policy of which ``why`` is not known, as one that is left alone."""
    metadata = manifest.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return Policy(
        key=key,
        source=Unsupported("unknown"),
        uid=uid if isinstance(uid, str) and uid else str(key),
        api_version=str(manifest.get("apiVersion")),
        origin=origin,
        secret=None,
        warnings=(f"{why} is not known to this version of credrotator, so the policy is left alone",),
    )


def _newer_field(spec: Mapping[str, Any], mechanism: schema.Mechanism) -> str | None:
    block = spec.get(mechanism.block)
    # Only if it is true: false says that the policy is one of those we know.
    names = [name for name in mechanism.unmanaged if isinstance(block, dict) and block.get(name) is True]
    return f"spec.{mechanism.block}.{names[0]}" if names else None


def _newer_type(spec: Mapping[str, Any], kind: str) -> str | None:
    """A type beside a block that is known, or nearly one that is known, was meant to be that one."""
    known_block = any(spec.get(mechanism.block) is not None for mechanism in schema.MECHANISMS.values())
    slip = difflib.get_close_matches(kind[:80], schema.MECHANISMS, 1, _SLIP)
    return f"type {kind}" if _TYPE.fullmatch(kind) and not known_block and not slip else None
