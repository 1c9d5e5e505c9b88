"""AssumeRole with the credential of another role, as the sandbox's STS judges it.

Owns the request's further fields and the trust between roles. Must not verify signatures.
Specification: AWS STS API reference 2011-06-15, AssumeRole; IAM user guide, "Role chaining" (one hour at most), "The
confused deputy problem" (ExternalId), "Passing session tags" (sts:TagSession).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from credrotator.sandbox.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.sandbox.roles import Role
    from credrotator.sandbox.sigv4 import Session

LONGEST = timedelta(hours=1)
MOST_TAGS, LONGEST_POLICY = 50, 2048


@dataclass(frozen=True)
class Asked:
    """An AssumeRole request, read."""

    role_arn: str
    session_name: str
    duration: timedelta | None
    external_id: str
    tags: Mapping[str, str]
    source_identity: str
    policy: str


def read(form: Mapping[str, str], session_name: str, duration: timedelta | None) -> Asked:
    """Read what AssumeRole has beside session name and duration; ``Refused`` for what AWS would not read."""
    policy = form.get("Policy", "")
    if policy:
        try:
            sound = len(policy) <= LONGEST_POLICY and "Statement" in json.loads(policy)
        except (ValueError, TypeError):
            sound = False
        if not sound:
            raise Refused("MalformedPolicyDocument")
    if duration and duration > LONGEST:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise Refused("ValidationError", message)
    numbers = range(1, MOST_TAGS + 1)
    tags = {form[f"Tags.member.{n}.Key"]: form.get(f"Tags.member.{n}.Value", "") for n in numbers if _tag(n) in form}
    further = (form.get("ExternalId", ""), tags, form.get("SourceIdentity", ""), policy)
    return Asked(form.get("RoleArn", ""), session_name, duration, *further)


def check(asked: Asked, role: Role | None, caller: Session) -> None:
    """See that a role lets the caller in; one that is not there looks like one that does not."""
    external_id = role.callers.get(role_of(caller)) if role else None
    if role is None or external_id is None or external_id != asked.external_id:
        raise _denied("AssumeRole", asked, caller)
    if asked.tags and not role.takes_tags:
        raise _denied("TagSession", asked, caller)
    if asked.source_identity and not role.takes_source_identity:
        raise _denied("SetSourceIdentity", asked, caller)


def role_of(session: Session) -> str:
    """Return the ARN of the role that a session is of, without the role's path, which a session does not tell."""
    partition, account, name = (session.arn.split(":")[1], session.account, session.arn.split("/")[1])
    return f"arn:{partition}:iam::{account}:role/{name}"


def _tag(number: int) -> str:
    return f"Tags.member.{number}.Key"


def _denied(action: str, asked: Asked, caller: Session) -> Refused:
    message = f"User: {caller.arn} is not authorized to perform: sts:{action} on resource: {asked.role_arn}"
    return Refused("AccessDenied", message)
