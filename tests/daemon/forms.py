"""Policies in the managed form, and how a test reads them."""

from __future__ import annotations

import json
from typing import Any

from credrotator.core.model import InvalidPolicy, ObjectKey, Policy, RotatablePolicy
from credrotator.policies.reader import Defaults
from tests.support.builders import AWS, Manifest, aws, azure, azure_secret, oidc, policy, read_any_form

FORMS = {"aws": aws, "azure": azure, "azure by secret": azure_secret}
ANNOTATION = f"metadata.annotations[{AWS}]"


def read(manifest: Manifest) -> Policy | InvalidPolicy:
    """Read a policy of either form."""
    return read_any_form(manifest, "policy.yaml:1", Defaults())


def valid(manifest: Manifest) -> RotatablePolicy:
    """Read a policy that has to be sound."""
    found = read(manifest)
    assert isinstance(found, RotatablePolicy), found
    return found


def problems(manifest: Manifest) -> dict[str, str]:
    """Read a policy that has to be refused; return messages by path."""
    found = read(manifest)
    assert isinstance(found, InvalidPolicy), found
    assert found.problems, "refused without a reason"
    assert found.key == ObjectKey("team-a", manifest["metadata"]["name"])
    return {problem.path: problem.message for problem in found.problems}


def managed(content: Any = None, name: str = AWS, **annotations: str) -> Manifest:
    """A managed policy of AWS; ``content`` is what its annotation holds."""
    exchange = {"awsRoleArn": "arn:aws:iam::123456789012:role/bedrock", "oidc": oidc()}
    block = {"region": "us-east-1", "oidcExchangeToken": exchange} if content is None else content
    found = carrier(name)
    text = block if isinstance(block, str) else json.dumps(block)
    found["metadata"]["annotations"] = {name: text, **annotations}
    return found


def carrier(name: str = AWS) -> Manifest:
    """What the gateway sees of a managed policy."""
    if name == AWS:
        file = {"secretRef": {"name": "published"}}
        return policy(
            "bedrock", {"type": "AWSCredentials", "awsCredentials": {"region": "us-east-1", "credentialsFile": file}}
        )
    return policy("openai", {"type": "APIKey", "apiKey": {"secretRef": {"name": "published"}}})
