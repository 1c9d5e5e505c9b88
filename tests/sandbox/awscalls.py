"""Calls of the sandbox's STS by boto3, each in a single attempt, and what their errors say."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from credrotator.sandbox import DEFAULT_ROLE, Sandbox

ONCE = Config(retries={"total_max_attempts": 1})
UNSIGNED_ONCE = ONCE.merge(Config(signature_version=UNSIGNED))


def assume(sandbox: Sandbox, token: str, role: str = DEFAULT_ROLE, **parameters: Any) -> dict[str, Any]:
    """Call AssumeRoleWithWebIdentity by boto3, in a single attempt."""
    client = boto3.client(
        "sts",
        endpoint_url=sandbox.sts.url,
        verify=str(sandbox.ca_file),
        region_name="eu-central-1",
        config=UNSIGNED_ONCE,
    )
    parameters = {"RoleSessionName": "session", **parameters}
    return dict(client.assume_role_with_web_identity(RoleArn=role, WebIdentityToken=token, **parameters))


def caller(sandbox: Sandbox, credentials: dict[str, Any], **changed: str) -> dict[str, Any]:
    """Call GetCallerIdentity by boto3 with these credentials, some of them changed."""
    credentials = {**credentials, **changed}
    client = boto3.client(
        "sts",
        endpoint_url=sandbox.sts.url,
        verify=str(sandbox.ca_file),
        region_name="eu-central-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=ONCE,
    )
    return dict(client.get_caller_identity())


def refused(call: Any, *arguments: Any, **parameters: Any) -> tuple[str, int, str]:
    """Return code, HTTP status and message of the error that ``call`` ends with."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **parameters)
    error: Any = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]
