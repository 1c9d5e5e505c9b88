"""What the gateway's ``awsCredentials`` may say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import Static
from credrotator.providers.aws.source import AwsOidc

if TYPE_CHECKING:
    from credrotator.core.model import Source
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading

PATH = "spec.awsCredentials"
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
            told = "the gateway does not read this field, and uses profile default"
            reading.warnings.append(f"{PATH}.credentialsFile.profile: {told}; put the credential there")
        return Static(CREDENTIALS_FILE, ref, file.profile)
    return Static("aws-default-chain")


def _exchanged(reading: Reading, region: str, exchange: schema.AwsOidcExchange, path: str) -> Source:
    own, partition = exchange.aws_role_arn.split(":")[1], partition_of(region)
    if partition != own:
        reading.wrong(
            f"{path}.awsRoleArn",
            f"is in partition {own}, but region {region} is in {partition}; "
            "a role can be assumed in its own partition only",
        )
    return AwsOidc(reading.token_source(exchange, path), exchange.aws_role_arn, region, reading.duration())


def partition_of(region: str) -> str:
    """Return the AWS partition that a region belongs to."""
    return next(partition for prefix, partition in PARTITIONS if region.startswith(prefix))
