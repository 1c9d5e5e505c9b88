"""What the gateway's ``awsCredentials`` may say. Pure."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.json_text import read_json
from credrotator.core.model import Static
from credrotator.policies import schema
from credrotator.policies.annotations import DURATION, PREFIX, annotation_path
from credrotator.providers.aws.source import AwsOidc, ChainedRole

if TYPE_CHECKING:
    from credrotator.core.model import Source
    from credrotator.policies.reader import Reading

PATH = "spec.awsCredentials"
ROLE_CHAIN = PREFIX + "role-chain"
# STS refuses more for AssumeRole by a role's credential, whatever MaxSessionDuration says.
LONGEST_CHAINED = timedelta(hours=1)
# AssumeRole's limit for Policy, in characters; above it STS answers with a validation error that does not name the
# annotation.
LONGEST_POLICY = 2048
AUDIENCE = "sts.amazonaws.com"
"""Whom IAM's identity providers want tokens for, unless they are set up otherwise."""
CREDENTIALS_FILE = "aws-credentials-file"
# Longest prefix first; https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
PARTITIONS = (
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-iso-", "aws-iso"),
    ("eusc-", "aws-eusc"),
    ("", "aws"),
)


def read_block(reading: Reading, block: schema.AwsCredentials | None) -> Source | None:
    """Check what the block's fields mean together; None where it is not there."""
    if block is None:
        return None
    if exchange := block.oidc_exchange_token:
        return _exchanged(reading, block.region, exchange, f"{PATH}.oidcExchangeToken")
    if file := block.credentials_file:
        ref = reading.static_key(file.secret_ref, "credentials", f"{PATH}.credentialsFile.secretRef")
        if file.profile != "default":
            why = "the gateway does not read this field, and uses profile default"
            reading.warnings.append(f"{PATH}.credentialsFile.profile: {why}; put the credential there")
        return Static(CREDENTIALS_FILE, ref, file.profile)
    # Neither block: the filter's own SDK finds credentials (IRSA, an instance profile), and there is nothing to rotate.
    return Static("aws-default-chain")


def _exchanged(reading: Reading, region: str, exchange: schema.AwsOidcExchange, path: str) -> Source:
    return read_role(reading, region, exchange, path, (annotation_path(DURATION), reading.duration()))


def read_role(
    reading: Reading,
    region: str,
    exchange: schema.AwsOidcExchange,
    path: str,
    duration: tuple[str, timedelta | None],
) -> AwsOidc:
    """Read which role is assumed, by which token, and which roles after it.

    Args:
        reading: Is told what is wrong.
        region: Where.
        exchange: The policy's ``oidcExchangeToken``.
        path: Where that stands.
        duration: Where the policy says how long, and what it says there.
    """
    own, partition = exchange.aws_role_arn.split(":")[1], partition_of(region)
    if partition != own:
        reading.wrong(
            f"{path}.awsRoleArn",
            f"is in partition {own}, but region {region} is in {partition}; "
            "a role can be assumed in its own partition only",
        )
    token_source = reading.token_source(exchange, path, default_audience=AUDIENCE)
    chain, (where, life) = read_chain(reading, partition), duration
    if chain and life and life > LONGEST_CHAINED:
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
        reading.wrong(where, f"at most 1h beside {ROLE_CHAIN}, as AWS has it for chained roles")
    return AwsOidc(token_source, exchange.aws_role_arn, region, life, chain)


def read_chain(reading: Reading, partition: str) -> tuple[ChainedRole, ...]:
    """Read the roles that are assumed after the first."""
    listed, path = reading.listed(ROLE_CHAIN, schema.RoleChain, "roles"), annotation_path(ROLE_CHAIN)
    chain = []
    for index, role in enumerate(listed.roles if listed else ()):
        if (own := role.role_arn.split(":")[1]) != partition:
            reading.wrong(f"{path}[{index}].roleArn", f"is in partition {own}, but the region is in {partition}")
        policy = _session_policy(reading, role.session_policy, f"{path}[{index}].sessionPolicy")
        tags = tuple(sorted(role.session_tags.items()))
        chain.append(ChainedRole(role.role_arn, role.external_id, tags, policy, role.source_identity))
    return tuple(chain)


def _session_policy(reading: Reading, policy: str | dict[str, Any] | None, path: str) -> str:
    """Return a session policy as JSON without blanks; AWS counts its characters."""
    document: object = policy
    if isinstance(policy, str):
        try:
            document = read_json(policy)
        except ValueError:
            document = None
    if policy is None:
        return ""
    if not isinstance(document, dict) or "Statement" not in document:
        reading.wrong(path, "expected an IAM policy: an object with Statement, in JSON")
        return ""
    try:
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        reading.wrong(path, "expected an IAM policy, in JSON")
        return ""
    if len(text) > LONGEST_POLICY:
        reading.wrong(path, f"has {len(text)} characters without blanks, AWS takes {LONGEST_POLICY} at most")
    return text


def partition_of(region: str) -> str:
    """Return the AWS partition that a region belongs to."""
    return next(partition for prefix, partition in PARTITIONS if region.startswith(prefix))
