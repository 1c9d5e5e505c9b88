"""The sandbox's AWS STS.

Owns the judgement of web identities and of signed calls, by settings that a test may edit. Must not know Entra, nor
make tokens. Specification: AWS STS API reference 2011-06-15, Query protocol: AssumeRoleWithWebIdentity,
AssumeRole and GetCallerIdentity.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from credrotator.sandbox import chained
from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.bedrock import holder
from credrotator.sandbox.roles import ARN, Role, new_session
from credrotator.sandbox.service import Place, Scheme, Service
from credrotator.sandbox.sigv4 import Session, SignedRequest, verify
from credrotator.sandbox.stsanswers import answer, error_answer
from credrotator.sandbox.trust import (
    BadSignature,
    Malformed,
    Token,
    TrustedIssuers,
    UnknownIssuer,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Request, Response


DEFAULT_ROLE = "arn:aws:iam::123456789012:role/bedrock"
SESSION_NAME = r"[\w+=,.@-]*"
MIN_DURATION_S, MAX_DURATION_S = 900, 43_200
KEPT_SESSIONS = 20_000  # the oldest go first, so that a sandbox may run for days
MIN_SESSION_NAME, MAX_SESSION_NAME = 2, 64


class Sts(Service):
    """An STS whose roles, trusted issuers and sessions are plain attributes; each may be changed while it runs."""

    name: ClassVar[str] = "sts"
    routes: ClassVar[Mapping[str, str]] = {"/": "POST query", "/model/<model>/converse": "POST converse"}

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.issuers = TrustedIssuers()
        self.roles: dict[str, Role] = {}
        self.sessions: dict[str, Session] = {}

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return an AWS error."""
        return error_answer(code, description)

    def verify(self, request: SignedRequest) -> Session:
        """Return the session that signed ``request``, to any service; ``Refused`` carries AWS's code if none did."""
        return verify(request, self.sessions.get, self.now())

    def query(self, request: Request) -> Response:
        """Answer one call of the Query protocol."""
        action = request.form.get("Action", "")
        if action == "AssumeRoleWithWebIdentity":
            return self._assume(request)
        if action == "AssumeRole":
            return self._assume_by_role(request)
        if action == "GetCallerIdentity":
            return self._caller(request)
        raise Refused("InvalidAction", f"Could not find operation {action} for version 2011-06-15")

    def converse(self, request: Request, model: str) -> Response:
        """Answer as Bedrock does, on STS's port: to whoever shows a short-term API key as a bearer token."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refused("MissingAuthenticationToken")
        session = holder(key, self.sessions.get, self.now())
        content = [{"text": f"hello, {session.arn} ({model})"}]
        return json_answer({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"})

    def _caller(self, request: Request) -> Response:
        session = self._signer(request)
        caller = {"Arn": session.arn, "UserId": session.role_id, "Account": session.account}
        return answer("GetCallerIdentity", caller)

    def _signer(self, request: Request) -> Session:
        url = f"{request.scheme}://{request.host}{request.environ['REQUEST_URI']}"
        return self.verify(SignedRequest(request.method, url, dict(request.headers), request.get_data()))

    def _assume_by_role(self, request: Request) -> Response:
        caller = self._signer(request)
        asked = chained.read(request.form, _session_name(request), _duration(request))
        role = self.roles.get(asked.role_arn)
        chained.check(asked, role, caller)
        further = {"tags": asked.tags, "source_identity": asked.source_identity, "policy": asked.policy}
        life = role.life_for(asked.duration) if role else chained.LONGEST
        session = new_session(asked.role_arn, asked.session_name, self.now() + life, **further)
        self._keep(session)
        return answer("AssumeRole", {name: part for name, part in _common(session).items() if part})

    def _assume(self, request: Request) -> Response:
        session_name = _session_name(request)
        asked = _duration(request)
        role_arn = _required(request, "RoleArn")
        token = self._verified(_required(request, "WebIdentityToken"))
        role = self._role_for(role_arn, token)
        if asked is not None and asked > role.max_life:
            raise Refused(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )
        session = new_session(role_arn, session_name, self.now() + role.life_for(asked))
        self._keep(session)
        return answer("AssumeRoleWithWebIdentity", _assumed(session, token, role))

    def _keep(self, session: Session) -> None:
        self.sessions[session.access_key_id] = session
        while len(self.sessions) > KEPT_SESSIONS:
            self.sessions.pop(next(iter(self.sessions)), None)

    def _verified(self, compact: str) -> Token:
        try:
            token = self.issuers.verified(compact)
        except Malformed as error:
            raise Refused("InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this "
                          "error if you sent an Access Token)") from error  # fmt: skip
        except UnknownIssuer as error:
            message = f"No OpenIDConnect provider found in your account for {error}"
            raise Refused("InvalidIdentityToken", message) from error
        except Unreachable as error:
            raise Refused("IDPCommunicationError") from error
        except BadSignature as error:
            raise Refused("InvalidIdentityToken") from error
        self._check_times(token)
        return token

    def _check_times(self, token: Token) -> None:
        now, expires = self.now(), token.time("exp")
        if expires is None:
            raise Refused("InvalidIdentityToken", "Missing a required claim: exp")
        if now >= expires:
            raise Refused(
                "ExpiredTokenException",
                f"Token expired: current date/time {int(now.timestamp())} must be before the expiration date/time "
                f"{int(expires.timestamp())}",
            )
        begins = token.time("nbf")
        if begins is not None and now < begins - timedelta(minutes=5):
            raise Refused("InvalidIdentityToken", "The token is not valid yet")

    def _role_for(self, role_arn: str, token: Token) -> Role:
        role = self.roles.get(role_arn)
        if role is None and ARN.fullmatch(role_arn) is None:
            raise Refused("ValidationError", "Request ARN is invalid")
        # A role that does not exist looks like one that does not trust the caller, as AWS has it.
        if role is None or not role.trusts(token):
            raise Refused("AccessDenied")
        if not role.trusts_audience(token):
            raise Refused("InvalidIdentityToken", "Incorrect token audience")
        return role


def _assumed(session: Session, token: Token, role: Role) -> dict[str, str | dict[str, str]]:
    return {
        "Audience": role.audience,
        "Provider": token.issuer,
        "SubjectFromWebIdentityToken": token.subject,
        **{name: part for name, part in _common(session).items() if part},
    }


def _common(session: Session) -> dict[str, str | dict[str, str]]:
    return {
        "AssumedRoleUser": {"AssumedRoleId": session.role_id, "Arn": session.arn},
        "Credentials": {
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_access_key,
            "SessionToken": session.session_token,
            "Expiration": session.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "SourceIdentity": session.source_identity,
    }


def _required(request: Request, name: str) -> str:
    if not request.form.get(name):
        raise Refused("MissingParameter", f"The request must contain the parameter {name}")
    return request.form[name]


def _session_name(request: Request) -> str:
    value = _required(request, "RoleSessionName")
    if re.fullmatch(SESSION_NAME, value, re.ASCII) is None:
        raise _constraint(value, "roleSessionName", f"satisfy regular expression pattern: {SESSION_NAME}")
    if len(value) < MIN_SESSION_NAME:
        raise _constraint(value, "roleSessionName", f"have length greater than or equal to {MIN_SESSION_NAME}")
    if len(value) > MAX_SESSION_NAME:
        raise _constraint(value, "roleSessionName", f"have length less than or equal to {MAX_SESSION_NAME}")
    return value


def _duration(request: Request) -> timedelta | None:
    value = request.form.get("DurationSeconds")
    if value is None:
        return None
    if not value.isdecimal():
        raise Refused("ValidationError", "DurationSeconds is no number")
    if int(value) < MIN_DURATION_S:
        raise _constraint(value, "durationSeconds", f"have value greater than or equal to {MIN_DURATION_S}")
    if int(value) > MAX_DURATION_S:
        raise _constraint(value, "durationSeconds", f"have value less than or equal to {MAX_DURATION_S}")
    return timedelta(seconds=int(value))


def _constraint(value: str, member: str, constraint: str) -> Refused:
    return Refused(
        "ValidationError",
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )
