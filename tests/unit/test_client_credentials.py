"""``credrotator.io/client-credentials``: what it may say, and that no other token than the issuer's is published."""

from __future__ import annotations

import pytest

from credrotator.core.model import InvalidPolicy, ObjectKey, OidcClient, RotatablePolicy, SubjectUse
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import Manifest, oidc
from tests.unit.annotation_blocks import asking, path, problems, read

NAME = "client-credentials"
BLOCK: Manifest = {"aud": "https://mcp.example", "oidc": oidc()}


def test_a_sound_block() -> None:
    """The Secret is the one that the policy names; the token is no shared one, and is not exchanged."""
    found = read(asking(NAME, BLOCK))
    assert isinstance(found, RotatablePolicy), found
    assert (found.provider, found.managed, found.data_key) == ("client-credentials", True, "apiKey")
    assert found.secret == ObjectKey("team-a", "token")
    assert found.source.subject_use is SubjectUse.CREDENTIAL
    assert isinstance(found.source.token_source, OidcClient)
    assert found.source.token_source.audience == "https://mcp.example"
    assert [str(reference.secret) for reference in found.references] == ["team-a/oidc-client"]
    assert found.source.identity
    assert not policy_reader(Defaults()).is_convertible(found)


def test_an_edit_is_another_credential() -> None:
    """Audience, scopes, resources and client are part of the fingerprint, the client's secret is not."""
    sound = read(asking(NAME, BLOCK))
    assert isinstance(sound, RotatablePolicy)
    for edit in ({"scopes": ["tools"]}, {"resources": ["https://a.example"]}, {"clientID": "other"}):
        edited = read(asking(NAME, {**BLOCK, "oidc": {**oidc(), **edit}}))
        assert isinstance(edited, RotatablePolicy), edited
        assert edited.fingerprint != sound.fingerprint, edit
    for block, same in (({"oidc": oidc()}, False), (BLOCK, True)):
        again = read(asking(NAME, block))
        assert isinstance(again, RotatablePolicy)
        assert (again.fingerprint == sound.fingerprint) is same


@pytest.mark.parametrize("annotation", ["token-source", "service-account"])
def test_no_other_token_is_published(annotation: str) -> None:
    """Security 11's twin: whoever may read the policy's Secret would have the operator's token, for any use."""
    found = problems(asking(NAME, BLOCK, **{annotation: "pod"}))
    assert list(found) == [path(annotation)]
    assert found[path(annotation)].endswith("remove it")


def test_a_client_without_a_secret() -> None:
    """By what the client proves itself, nothing changes: the issuer sees it, and nobody else."""
    without = {name: value for name, value in oidc().items() if name != "clientSecret"}
    found = read(asking(NAME, {"oidc": without}, client_assertion="service-account/gateway"))
    assert isinstance(found, RotatablePolicy), found
    assert not found.references


def test_what_is_wrong_is_named() -> None:
    """Strict, as every block of an annotation."""
    assert list(problems(asking(NAME, {}))) == [path(NAME, "oidc")]
    wrong = {**BLOCK, "audience": "x", "oidc": {**oidc(), "scope": "y"}}
    assert set(problems(asking(NAME, wrong))) == {path(NAME, "audience"), path(NAME, "oidc.scope")}
    assert isinstance(read(asking(NAME, {"oidcExchangeToken": {"oidc": oidc()}})), InvalidPolicy)
