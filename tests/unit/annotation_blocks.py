"""Policies with a block in an annotation, and how they are read."""

from __future__ import annotations

import json

from credrotator.core.model import InvalidPolicy, RotatablePolicy
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import Manifest, oidc, policy

EXCHANGE = {"aud": "vendor", "oidc": oidc()}


def asking(name: str, block: object, **annotations: str) -> Manifest:
    """Return a policy whose key comes from a block."""
    manifest = policy("models", {"type": "APIKey", "apiKey": {"secretRef": {"name": "token"}}})
    text = block if isinstance(block, str) else json.dumps(block)
    manifest["metadata"]["annotations"] = {
        f"credrotator.io/{name}": text,
        **{f"credrotator.io/{key.replace('_', '-')}": value for key, value in annotations.items()},
    }
    return manifest


def read(manifest: Manifest) -> RotatablePolicy | InvalidPolicy:
    """Read a policy that asks for something."""
    found = policy_reader(Defaults()).read(manifest, "here")
    assert isinstance(found, RotatablePolicy | InvalidPolicy)
    return found


def problems(manifest: Manifest) -> dict[str, str]:
    """Return what is wrong with a policy, by path."""
    found = read(manifest)
    assert isinstance(found, InvalidPolicy), found
    return {problem.path: problem.message for problem in found.problems}


def path(name: str, field: str = "") -> str:
    """Return the path of a field in an annotation."""
    return f"metadata.annotations[credrotator.io/{name}]{'.' if field else ''}{field}"
