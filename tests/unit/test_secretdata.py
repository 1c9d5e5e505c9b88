"""Credential to Secret and back: the gateway's bytes, and annotations that survive people and other programs."""

from __future__ import annotations

import configparser
import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.claims import claim_time, read_claims
from credrotator.core.model import ObjectKey, Owner
from credrotator.core.planning import Keep, plan
from credrotator.core.profiles import read_profile
from credrotator.core.secret_document import Published, SecretDocument, Unreadable
from credrotator.core.secretdata import (
    adopt,
    content_hash,
    park,
    read_time,
    render,
    show_time,
)
from credrotator.core.sensitive import Sensitive
from tests.support.builders import HOUR, NOW, SECOND, SECRET, SOURCES, aws_credential, azure_token, gcp_token, parse_as

EXPIRY = "rotators/expiration-time"
FINGERPRINT = "0123456789abcdef"
AWS_FILE = """[default]
aws_access_key_id = ASIAEXAMPLE
aws_secret_access_key = wJalr/XUt+nFEMI=%s
aws_session_token = FwoG/+=%:
region = us-east-1
"""


def jwt(claims: Any, header: Any = None) -> str:
    """A JWT in compact form, with a signature that nobody checks."""
    parts = (header or {"alg": "RS256"}, claims)
    return ".".join([*(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "sig"])


def aws_document(**annotations: str) -> SecretDocument:
    """An AWS Secret with exactly these annotations: ``expiry`` for the gateway's own."""
    names = {"expiry": EXPIRY, "issued": "credrotator.io/issued-at", "content": "credrotator.io/content-hash"}
    notes = {names[name]: value for name, value in annotations.items()}
    return SecretDocument(SECRET, {"credentials": Sensitive(AWS_FILE)}, notes)


def azure_document(text: str, **annotations: str) -> SecretDocument:
    """An Azure Secret."""
    return replace(aws_document(**annotations), data={"azureAccessToken": Sensitive(text)})


def revealed(document: SecretDocument) -> dict[str, str]:
    """The data as text."""
    return {key: value.reveal() for key, value in document.data.items()}


def test_the_bytes_of_aws() -> None:
    """The contract's file: one profile, four lines, each with a newline; nothing else in the Secret."""
    document = render(SECRET, aws_credential(), FINGERPRINT)
    assert document.key == SECRET
    assert revealed(document) == {"credentials": AWS_FILE}


def test_the_bytes_of_azure() -> None:
    """The contract: the access token and nothing else, no newline."""
    assert revealed(render(SECRET, azure_token("eyJ.x.y"), FINGERPRINT)) == {"azureAccessToken": "eyJ.x.y"}


def test_the_bytes_of_gcp() -> None:
    """As the gateway's rotators write it: by workload identity with project and region, by key file without."""
    whole = {"gcpAccessToken": "ya29.c.x", "projectName": "my-project", "region": "us-central1"}
    assert revealed(render(SECRET, gcp_token(), FINGERPRINT)) == whole
    assert revealed(render(SECRET, gcp_token(region=None), FINGERPRINT)) == {"gcpAccessToken": "ya29.c.x"}
    asked = gcp_token().secret_data("apiKey")
    assert revealed(render(SECRET, gcp_token(), FINGERPRINT, data=asked)) == {"apiKey": "ya29.c.x"}


@pytest.mark.parametrize("provider", ["gcp-workload-identity", "gcp-service-account"])
def test_gcp_reads_back(provider: str) -> None:
    """Ours with its issue and fingerprint, the gateway's is adopted; one whose annotation is gone tells nothing."""
    document = render(SECRET, gcp_token(), FINGERPRINT)
    assert parse_as(document, provider) == Published(NOW + HOUR, NOW, FINGERPRINT)
    theirs = replace(document, annotations={EXPIRY: show_time(NOW)})
    assert parse_as(theirs, provider) == Published(NOW, None, None)
    assert isinstance(parse_as(replace(document, annotations={}), provider), Unreadable)
    moved = replace(document, data={**document.data, "region": Sensitive("europe-west4")})
    assert parse_as(moved, provider) == Unreadable("its data was changed by somebody else")
    assert parse_as(render(SECRET, azure_token(), FINGERPRINT), provider) == Unreadable(
        "the Secret has no key gcpAccessToken, or an empty one"
    )


def test_the_annotations() -> None:
    """The gateway's expiry in RFC 3339; issue, fingerprint, content hash and what we wrote there, of ours."""
    assert render(SECRET, azure_token(), FINGERPRINT).annotations == {
        EXPIRY: "2026-11-24T13:00:00Z",
        "credrotator.io/issued-at": "2026-11-24T12:00:00Z",
        "credrotator.io/fingerprint": FINGERPRINT,
        "credrotator.io/content-hash": "db1492daa81fb8d3",
        "credrotator.io/annotated-expiration-time": "2026-11-24T13:00:00Z",
        "credrotator.io/times-hash": "100169cbdae5433b",
    }


def test_a_long_life_is_clamped() -> None:
    """Fault 13, 37: Entra's long-lived tokens (up to 28 h) are published as 24 h, which planning believes."""
    published = parse_as(render(SECRET, azure_token(life=timedelta(hours=28)), FINGERPRINT), "azure-oidc")
    assert published == Published(NOW + timedelta(hours=24), NOW, FINGERPRINT)
    decided = plan(published, fingerprint=FINGERPRINT, seed="uid", now=NOW)
    assert isinstance(decided, Keep)


# What STS and Entra issue: printable ASCII. Blanks at the ends would be lost in any such file.
texts = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


@given(secret=texts, session=texts, issued_at=moments, life=st.integers(1, 24 * 3600))
def test_aws_round_trip(secret: str, session: str, issued_at: datetime, life: int) -> None:
    """Whatever the characters (``%``, ``=``, ``/``, ``+``, ``;``, ``#``), the file reads back, as botocore reads it."""
    credential = replace(aws_credential(issued_at, life * SECOND, session), secret_access_key=Sensitive(secret))
    document = render(SECRET, credential, FINGERPRINT)
    published = Published(credential.expires_at.replace(microsecond=0), issued_at.replace(microsecond=0), FINGERPRINT)
    assert parse_as(document, "aws-oidc") == published
    reader = configparser.RawConfigParser()  # the way of botocore.configloader
    reader.read_string(revealed(document)["credentials"])
    assert reader["default"]["aws_secret_access_key"] == secret
    assert reader["default"]["aws_session_token"] == session


@given(text=texts, issued_at=moments, life=st.integers(1, 24 * 3600))
def test_azure_round_trip(text: str, issued_at: datetime, life: int) -> None:
    """The token as it is, times to the second and never later than true."""
    credential = azure_token(text, issued_at, life * SECOND)
    document = render(SECRET, credential, FINGERPRINT)
    published = parse_as(document, "azure-oidc")
    assert isinstance(published, Published)
    assert revealed(document) == {"azureAccessToken": text}
    assert timedelta(0) <= credential.expires_at - published.expires_at < SECOND
    assert published.fingerprint == FINGERPRINT


def test_no_secret_is_none() -> None:
    """Absent is not unreadable: the reason is Missing."""
    assert parse_as(None, "aws-oidc") is None


def test_a_secret_of_the_gateway_is_adopted() -> None:
    """Only ``rotators/expiration-time``: its credential is good; who issued it when, nobody recorded."""
    adopted = Published(NOW + HOUR, None, None)
    assert parse_as(aws_document(expiry="2026-11-24T13:00:00Z"), "aws-oidc") == adopted
    for provider in ("azure-oidc", "azure-client-secret"):
        assert parse_as(azure_document("opaque", expiry="2026-11-24T13:00:00Z"), provider) == adopted


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T13:00:00Z", NOW + HOUR),
        ("2026-11-24T15:30:00+02:30", NOW + HOUR),
        ("2026-11-24T05:00:00-08:00", NOW + HOUR),
        ("2026-11-24T13:00:00.5Z", NOW + HOUR + SECOND / 2),
        ("2026-11-24T13:00:00.123456789Z", NOW + HOUR + timedelta(microseconds=123456)),
        ("2199-01-01T00:00:00Z", datetime(2199, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    """RFC 3339 with fractions (Go writes nanoseconds), any offset, any year to come."""
    assert read_time(text) == moment
    published = parse_as(aws_document(expiry=text), "aws-oidc")
    assert isinstance(published, Published)
    assert published.expires_at == moment


NO_TIMES = [
    "",
    "tomorrow",
    "2026-11-24",
    "2026-11-24T13:00:00",
    "2026-11-24 13:00:00Z",
    "20261124T130000Z",
    "2026-W48-2T13:00:00Z",
    "2026-11-24T13:00Z",
    "2026-02-30T13:00:00Z",
    "2026-11-24T25:00:00Z",
    "2026-11-24T13:00:00+24:00",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+05:00",
    "9999-12-31T23:59:59-05:00",
    "\uff12026-11-24T13:00:00Z",
    "2026-11-24T13:00:00Z\n",
    "1764000000",
]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_go_would_not_read_is_malformed(text: str) -> None:
    """Fault 37, G9: what stops the gateway's controller (or is Go's zero time) is unreadable, so it gets repaired."""
    assert read_time(text) is None
    found = parse_as(aws_document(expiry=text), "aws-oidc")
    assert found == Unreadable(f"its annotation {EXPIRY} is missing or not a time")


def test_a_missing_annotation_is_named() -> None:
    """Fault 37: without an expiry an AWS Secret tells nothing."""
    assert parse_as(aws_document(), "aws-oidc") == Unreadable(f"its annotation {EXPIRY} is missing or not a time")
    assert read_time(None) is None


@pytest.mark.parametrize("annotations", [{}, {"expiry": "garbled"}])
def test_an_entra_token_tells_its_own_expiry(annotations: dict[str, str]) -> None:
    """Fault 37: expiry from the content where possible."""
    token = jwt({"exp": int((NOW + HOUR).timestamp())})
    assert parse_as(azure_document(token, **annotations), "azure-oidc") == Published(NOW + HOUR, None, None)


def test_the_annotation_wins_over_the_token() -> None:
    """A clamped or parked expiry is the one that counts."""
    token = jwt({"exp": int((NOW + 9 * HOUR).timestamp())})
    assert parse_as(azure_document(token, expiry=show_time(NOW)), "azure-oidc") == Published(NOW, None, None)


@pytest.mark.parametrize("token", ["opaque", "a.b.c", jwt({}), jwt({"exp": "soon"}), jwt({"exp": True}), jwt([])])
def test_a_token_without_an_expiry_is_unreadable(token: str) -> None:
    """Fault 37: where neither tells, rotate once and repair."""
    assert isinstance(parse_as(azure_document(token), "azure-oidc"), Unreadable)


def test_a_malformed_issue_time_is_unknown() -> None:
    """It is ours alone, and planning has a rule for an unknown one."""
    found = parse_as(aws_document(expiry=show_time(NOW), issued="yesterday"), "aws-oidc")
    assert found == Published(NOW, None, None)


def test_edited_data_is_noticed() -> None:
    """Fault 38: the content hash tells that a person changed a value, added a key or renamed one."""
    document = render(SECRET, aws_credential(), FINGERPRINT)
    edited = Sensitive(AWS_FILE.replace("us-east-1", "us-west-2"))
    for data in ({"credentials": edited}, {**document.data, "azureAccessToken": Sensitive("stale")}):
        assert parse_as(replace(document, data=data), "aws-oidc") == Unreadable("its data was changed by somebody else")


def test_a_gateway_secret_with_a_stale_key_is_adopted() -> None:
    """Nobody hashed it; the next rotation replaces the data as a whole (G15)."""
    document = aws_document(expiry=show_time(NOW))
    found = parse_as(replace(document, data={**document.data, "azureAccessToken": Sensitive("old")}), "aws-oidc")
    assert isinstance(found, Published)


def test_a_change_of_type_leaves_the_wrong_key() -> None:
    """G15: an AWS Secret is no answer for an Azure policy."""
    assert parse_as(render(SECRET, aws_credential(), FINGERPRINT), "azure-oidc") == Unreadable(
        "the Secret has no key azureAccessToken, or an empty one"
    )


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_value_is_no_credential(text: str) -> None:
    """The gateway trims a token: blanks are as good as nothing."""
    assert isinstance(parse_as(azure_document(text, expiry=show_time(NOW)), "azure-oidc"), Unreadable)


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("aws_session_token", "session", "aws_session_token"),
        ("ASIAEXAMPLE", "", "aws_access_key_id"),
        ("[default]", "[other]", "aws_access_key_id, aws_secret_access_key, aws_session_token"),
        ("[default]\n", "", "aws_access_key_id, aws_secret_access_key, aws_session_token"),
        ("region", "aws_session_token", "aws_access_key_id, aws_secret_access_key, aws_session_token"),
    ],
)
def test_a_credentials_file_must_be_whole(old: str, new: str, missing: str) -> None:
    """What the gateway could not sign with is unreadable; the missing options are named, never their neighbours."""
    document = aws_document(expiry=show_time(NOW))
    broken = replace(document, data={"credentials": Sensitive(AWS_FILE.replace(old, new))})
    found = parse_as(broken, "aws-oidc")
    assert found == Unreadable(f"its credentials file lacks {missing} in profile default")


@given(
    data=st.dictionaries(
        st.sampled_from(["credentials", "azureAccessToken", "gcpAccessToken", "x"]),
        st.text().map(Sensitive),
        max_size=3,
    ),
    annotations=st.dictionaries(
        st.sampled_from([EXPIRY, "credrotator.io/issued-at", "credrotator.io/fingerprint"]), st.text(), max_size=3
    ),
    provider=st.sampled_from(list(SOURCES)),
)
def test_any_secret_reads(data: dict[str, Sensitive], annotations: dict[str, str], provider: str) -> None:
    """Nothing in a Secret makes reading or planning fail."""
    found = parse_as(SecretDocument(SECRET, data, annotations), provider)
    plan(found, fingerprint=FINGERPRINT, seed="uid", now=NOW)


@given(text=st.text() | texts.map(lambda rest: f"[default]\n{rest}"))
def test_any_text_reads_as_a_profile_or_not(text: str) -> None:
    """A credentials file that a person wrote is a mapping or None."""
    for provider_key in ("credentials", "azureAccessToken"):
        document = SecretDocument(SECRET, {provider_key: Sensitive(text)}, {EXPIRY: show_time(NOW)})
        parse_as(document, "aws-oidc")
    assert read_profile(text, "no such profile") is None


def test_profiles() -> None:
    """Each profile by its name; an interpolation of Python's is no part of the format."""
    text = "[default]\na = 1\n# comment\n[bedrock]\naws_secret_access_key = %(a)s\n"
    assert read_profile(text, "bedrock") == {"aws_secret_access_key": "%(a)s"}
    assert read_profile(text, "other") is None


@given(data=st.dictionaries(st.text(), st.text(), max_size=4), other=st.dictionaries(st.text(), st.text(), max_size=4))
def test_the_content_hash_tells_contents_apart(data: dict[str, str], other: dict[str, str]) -> None:
    """Equal for equal data in any order; where one value ends and the next key begins is part of it."""

    def hashed(values: dict[str, str]) -> str:
        return content_hash({key: Sensitive(value) for key, value in values.items()})

    assert hashed(dict(reversed(data.items()))) == hashed(data)
    assert (hashed(data) == hashed(other)) == (data == other)
    assert hashed({"a": "bc"}) != hashed({"ab": "c"})


def test_what_is_no_text_reads_too() -> None:
    """A lone surrogate, as a store may hand over for a stray byte, is hashed like anything else."""
    document = azure_document("\ud800", expiry=show_time(NOW), content="another")
    assert parse_as(document, "azure-oidc") == Unreadable("its data was changed by somebody else")


def test_shown_times_are_utc_and_never_later_than_true() -> None:
    """A fraction is cut: rounding up would promise time that is not there."""
    moment = NOW.astimezone(timezone(timedelta(hours=-8))) + timedelta(microseconds=999_999)
    assert show_time(moment) == "2026-11-24T12:00:00Z"


# Claims.


def test_claims_are_read_from_signed_jwts_only() -> None:
    """RFC 7519: three parts, a header that names an algorithm, an object of claims; an encrypted token has five."""
    assert read_claims(Sensitive(jwt({"sub": "x"}))) == {"sub": "x"}
    for text in ("", "opaque", "a.b.c.d.e", jwt([1]), jwt({}, header=[1]), jwt({}, header={"typ": "JWT"}), "é.é.é"):
        assert read_claims(Sensitive(text)) is None


@given(text=st.text() | st.binary().map(lambda raw: f"{urlsafe_b64encode(raw).decode()}." * 2))
def test_any_token_is_claims_or_none(text: str) -> None:
    """Opaque tokens may look like anything."""
    claims = read_claims(Sensitive(text))
    assert claims is None or isinstance(claims, dict)


def test_a_deep_token_is_none() -> None:
    """Deep nesting is refused by the parser's own limit, not by a crash."""
    deep = urlsafe_b64encode(b"[" * 100_000).decode()
    assert read_claims(Sensitive(f"{deep}.{deep}.x")) is None


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), float("inf"), 1e300, 10**40, -1, -62_135_596_800, []])
def test_insane_times_are_none(value: Any) -> None:
    """Fault 13: neither NaN nor the year 1 nor 1e300 becomes a time."""
    assert claim_time({"exp": value}, "exp") is None
    assert claim_time(None, "exp") is None


def test_sane_times() -> None:
    """NumericDate may have a fraction (RFC 7519 §2)."""
    assert claim_time({"exp": NOW.timestamp() + 0.5}, "exp") == NOW + SECOND / 2


def test_the_key_is_kept() -> None:
    """A document is for one Secret."""
    assert render(ObjectKey("a", "b"), azure_token(), "f").key == ("a", "b")


@given(life_s=st.integers(61, 24 * 3600), uid=st.uuids())
def test_the_gateway_never_wakes_before_our_renewal(life_s: int, uid: Any) -> None:
    """The gateway's rotator acts 5 min before its annotation; by then we have renewed, with any life.

    Where the life leaves no such time, the annotation says another than the true expiry, which planning goes by.
    """
    credential = replace(aws_credential(), issued_at=NOW, expires_at=NOW + timedelta(seconds=life_s))
    document = render(SECRET, credential, FINGERPRINT)
    annotated = read_time(document.annotations[EXPIRY])
    assert annotated
    wakes_at = annotated - timedelta(minutes=5)
    decided = plan(parse_as(document, "aws-oidc"), fingerprint=FINGERPRINT, seed=str(uid), now=NOW)
    assert isinstance(decided, Keep)
    assert decided.until < wakes_at
    assert wakes_at <= credential.expires_at
    published = parse_as(document, "aws-oidc")
    assert isinstance(published, Published)
    assert published.expires_at == credential.expires_at


def test_what_the_gateway_renewed_is_adopted() -> None:
    """The gateway's rotator replaces data and expiry and leaves our annotations: that is no stranger's edit."""
    ours = render(SECRET, aws_credential(), FINGERPRINT)
    theirs = render(SECRET, aws_credential(NOW + HOUR, session="another"), "x")
    renewed = replace(ours, data=theirs.data, annotations={**ours.annotations, EXPIRY: theirs.annotations[EXPIRY]})
    assert parse_as(renewed, "aws-oidc") == Published(NOW + 2 * HOUR, None, None)
    edited = replace(ours, data=theirs.data)
    assert isinstance(parse_as(edited, "aws-oidc"), Unreadable)
    adopted = adopt(renewed, FINGERPRINT, Owner("v1", "bedrock", "uid"))
    assert parse_as(adopted, "aws-oidc") == Published(NOW + 2 * HOUR, None, FINGERPRINT)
    assert adopted.data == theirs.data


def test_what_the_gateway_renewed_of_a_parked_secret() -> None:
    """A parked Secret has its true expiry in an annotation of ours, which a write of the gateway makes void."""
    parked = park(render(SECRET, aws_credential(), FINGERPRINT), SECRET, Owner("v1", "b", "u"), NOW + 2 * HOUR)
    theirs = render(SECRET, aws_credential(NOW + HOUR, session="another"), "x")
    renewed = replace(parked, data=theirs.data, annotations={**parked.annotations, EXPIRY: "2026-11-24T20:00:00Z"})
    assert parse_as(parked, "aws-oidc") == Published(NOW + HOUR, NOW, FINGERPRINT)
    assert parse_as(renewed, "aws-oidc") == Published(NOW + 8 * HOUR, None, None)


def test_parking_makes_no_edit_sound() -> None:
    """Data that somebody changed stays what it is while its policy is parked: not ours."""
    ours = render(SECRET, aws_credential(), FINGERPRINT)
    edited = replace(ours, data=render(SECRET, aws_credential(session="another"), "x").data)
    parked = park(edited, SECRET, Owner("v1", "b", "u"), NOW + HOUR)
    assert parse_as(parked, "aws-oidc") == Unreadable("its data was changed by somebody else")
