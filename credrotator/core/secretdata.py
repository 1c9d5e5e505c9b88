"""Credential ↔ Secret: the annotations that make a Secret its own record. Pure.

Owns the contract with the gateway but for the bytes, which are each provider's: ``rotators/expiration-time`` (RFC 3339)
as Envoy AI Gateway's ``internal/controller/rotators`` writes it. A Secret is replaced as a whole, so that a change of
type leaves no stale key behind.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from credrotator.core.planning import LONGEST_LIFE, MARGIN_LIFE
from credrotator.core.secret_document import Published, SecretDocument, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import Credential, ObjectKey, Owner, Rotatable
    from credrotator.core.sensitive import Sensitive
    from credrotator.core.shapes import Shape

EXPIRY = "rotators/expiration-time"
ISSUED = "credrotator.io/issued-at"
FINGERPRINT = "credrotator.io/fingerprint"
CONTENT = "credrotator.io/content-hash"
TRUE_EXPIRY = "credrotator.io/true-expiration-time"
"""The expiry as it is, where the gateway's annotation says another: on a parked Secret, or with a short life."""
ANNOTATED = "credrotator.io/annotated-expiration-time"
"""What we wrote under EXPIRY: another value there is a write of the gateway's rotator, or with our data an edit."""
TIMES = "credrotator.io/times-hash"
"""Of the times beside the data: whoever edits all of them, and not this, is found out by those who wrote none of it."""
PARKED_SINCE = "credrotator.io/parked-since"
"""When a Secret without a credential was first parked."""
RENEWED = "credrotator.io/renewed-for"
"""The policy's request for a renewal (its annotation) that was the latest when the credential was issued."""
POLICY = "credrotator.io/policy"
"""Leads from a Secret back to its policy, since a label cannot hold a long name."""
RECORDS = frozenset({
    ISSUED, FINGERPRINT, CONTENT, TRUE_EXPIRY, ANNOTATED, TIMES, PARKED_SINCE, RENEWED, POLICY,
})  # fmt: skip
"""All of ours that stand on a published Secret."""
LONGEST_REQUEST = 128
LONGEST_PARKING = timedelta(hours=6)
"""How long a Secret without a credential is parked: what keeps us from its issuer need not keep the gateway."""
GATEWAY_WAKES = timedelta(minutes=5)
"""The gateway's rotator acts when its annotation is less than this ahead."""
GATEWAY_TAKES = timedelta(minutes=1)
"""So long before a credential expires the gateway's rotator is let at it, whatever keeps us from renewing it."""

# Stricter than fromisoformat: what Go's time.RFC3339 refuses stops the gateway's controller, so it has to be repaired.
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def render(
    key: ObjectKey,
    credential: Credential,
    fingerprint: str,
    *,
    data: Mapping[str, Sensitive] | None = None,
    owner: Owner | None = None,
    request: str = "",
) -> SecretDocument:
    """Write a credential as a Secret.

    Args:
        key: The Secret.
        credential: What it is to hold.
        fingerprint: Of the policy that it was issued for.
        data: What the Secret is to hold of it (``RotatablePolicy.data``); by default what the gateway's rotator writes.
        owner: The policy that the Secret belongs to.
        request: The policy's latest request for a renewal.
    """
    data = credential.secret_data(None) if data is None else data
    annotations = {
        **_expiry_notes(min(credential.expires_at, credential.issued_at + LONGEST_LIFE), credential.issued_at),
        ISSUED: show_time(credential.issued_at),
        FINGERPRINT: fingerprint,
    }
    if request:
        annotations[RENEWED] = request
    return _noted(SecretDocument(key, data, annotations, owner))


def parse(
    document: SecretDocument | None, source: Rotatable, data_key: str | None = None, shape: Shape | None = None
) -> Published | Unreadable | None:
    """Read a Secret back as planning sees it; never raises for what is in it.

    A Secret without our annotations but with the gateway's is adopted: issue and fingerprint stay unknown. So is one of
    ours that the gateway's rotator has renewed while we were away; it leaves our annotations as they were. Where the
    expiry annotation is missing or malformed, the credential itself may tell its own.
    """
    if document is None:
        return None
    notes = document.annotations
    if not document.data and _awaits_one(notes):
        return None
    value = published_value(document.data, source, data_key, shape)
    if not value or not value.reveal().strip():
        keys = ", ".join(part.key for part in shape.parts) if shape else data_key or source.kind.data_key
        return Unreadable(f"the Secret has no key {keys}, or an empty one")
    if why := source.unusable(value):
        return Unreadable(why)
    if _is_edited(document):
        # Data and expiry moved together: that is what the gateway's rotator does. Data alone: a person, or another
        # program.
        if not _by_gateway(notes):
            return Unreadable("its data was changed by somebody else")
        # Our other annotations describe the credential before this one.
        notes = {EXPIRY: notes[EXPIRY]}
    elif _is_moved(notes):
        expires_at = read_time(_recorded_expiry(notes))
        return Unreadable(f"its annotation {EXPIRY} was changed by somebody else", expires_at)
    elif not _are_ours(notes):
        return Unreadable("its times were changed by somebody else", source.own_expiry(value))
    expires_at = read_time(notes.get(TRUE_EXPIRY, notes.get(EXPIRY))) or source.own_expiry(value)
    if expires_at is None:
        return Unreadable(f"its annotation {EXPIRY} is missing or not a time")
    request = document.annotations.get(RENEWED, "")
    return Published(expires_at, read_time(notes.get(ISSUED)), notes.get(FINGERPRINT), request)


def published_value(
    data: Mapping[str, Sensitive], source: Rotatable, data_key: str | None, shape: Shape | None
) -> Sensitive | None:
    """Return the published value as the gateway would read it, whatever its shape; None where it is not there."""
    if shape is None:
        return data.get(data_key or source.kind.data_key)
    fields = shape.fields(data)
    return None if fields is None else source.value_of(fields)


def cached_state(document: SecretDocument) -> Published | None:
    """Tell by our annotations alone what a Secret holds, where its data is what they were written for.

    None: only ``parse`` can tell. Whoever keeps no Secrets in memory keeps this of each.
    """
    notes = document.annotations
    expires_at = read_time(notes.get(TRUE_EXPIRY, notes.get(EXPIRY)))
    if not document.data or FINGERPRINT not in notes or expires_at is None:
        return None
    if notes.get(CONTENT) != content_hash(document.data) or _is_moved(notes) or not _are_ours(notes):
        return None
    return Published(expires_at, read_time(notes.get(ISSUED)), notes[FINGERPRINT], notes.get(RENEWED, ""))


def is_intact(document: SecretDocument) -> bool:
    """Tell whether data and times of a Secret of ours are what we wrote."""
    notes = document.annotations
    is_same = notes.get(CONTENT) == content_hash(document.data) and _are_ours(notes)
    return is_same and read_time(notes.get(EXPIRY)) is not None and not _is_moved(notes)


def _awaits_one(notes: Mapping[str, str]) -> bool:
    """Tell of a Secret without data whether it never had a credential: it was parked, or made to be filled."""
    return TRUE_EXPIRY in notes or not notes.keys() & {*RECORDS, EXPIRY}


def _is_edited(document: SecretDocument) -> bool:
    """Tell whether the data is not what our annotations were written for."""
    return document.annotations.get(CONTENT, content_hash(document.data)) != content_hash(document.data)


def _is_moved(notes: Mapping[str, str]) -> bool:
    """Tell whether somebody put another expiry where ours was; of a Secret whose data is as we wrote it."""
    return ANNOTATED in notes and notes[ANNOTATED] != notes.get(EXPIRY)


def _are_ours(notes: Mapping[str, str]) -> bool:
    """Tell whether the times are those that we wrote with the data; an older version wrote nothing to tell by."""
    return notes.get(TIMES) in {None, _hash_of_times(notes)}


def _hash_of_times(notes: Mapping[str, str]) -> str:
    texts = (notes.get(CONTENT, ""), _recorded_expiry(notes), notes.get(ISSUED, ""))
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _recorded_expiry(notes: Mapping[str, str]) -> str:
    """Return the expiry as we wrote it, where we did: an edit of the gateway's annotation makes nothing true."""
    return notes.get(TRUE_EXPIRY, notes.get(ANNOTATED if _is_moved(notes) else EXPIRY, ""))


def _by_gateway(notes: Mapping[str, str]) -> bool:
    """Tell whether data that is not ours came from the gateway's rotator, which moves its annotation along."""
    return read_time(notes.get(EXPIRY)) is not None and notes.get(ANNOTATED, notes[EXPIRY]) != notes[EXPIRY]


def adopt(stored: SecretDocument, fingerprint: str, owner: Owner) -> SecretDocument:
    """Return a Secret of the gateway as one of ours: its data and expiry, as good for the policy as it stands."""
    notes = _notes_of_content(stored)
    kept = {name: notes[name] for name in (EXPIRY, TRUE_EXPIRY, RENEWED) if name in notes}
    return _noted(SecretDocument(stored.key, stored.data, {**kept, FINGERPRINT: fingerprint}, owner))


def _notes_of_content(document: SecretDocument) -> Mapping[str, str]:
    """Return what is noted of the data that is there: where the gateway has renewed it, ours is of the one before."""
    notes = document.annotations
    if not (_is_edited(document) and _by_gateway(notes)):
        return notes
    # A request is of the policy, whoever renewed the credential since.
    return {name: notes[name] for name in (EXPIRY, RENEWED) if name in notes}


def _noted(document: SecretDocument) -> SecretDocument:
    """Add what tells later whether somebody else has written."""
    notes = {**document.annotations, CONTENT: content_hash(document.data), ANNOTATED: document.annotations[EXPIRY]}
    return replace(document, annotations={**notes, TIMES: _hash_of_times(notes)})


def _expiry_notes(expires_at: datetime, issued_at: datetime) -> dict[str, str]:
    """Tell the gateway when to act: long after we have renewed, so that it is the fallback and no rival.

    With a life of 20 min or less its five minutes would come before or together with our renewal; it is then told to
    wake at the true expiry, which stands in an annotation of ours.
    """
    if expires_at - issued_at > MARGIN_LIFE:
        return {EXPIRY: show_time(expires_at)}
    return {EXPIRY: show_time(expires_at + GATEWAY_WAKES), TRUE_EXPIRY: show_time(expires_at)}


def park(
    stored: SecretDocument | None, key: ObjectKey, owner: Owner, until: datetime, since: datetime | None = None
) -> SecretDocument:
    """Return the Secret with the gateway's expiry annotation put off, so that its rotator leaves the policy alone.

    The data stays as it is, none if there was none; the true expiry moves to an annotation of ours.

    Args:
        stored: What is there.
        key: The Secret.
        owner: The policy that it belongs to.
        until: What the gateway's annotation is to say.
        since: When this began, where there is no credential.
    """
    data = dict(stored.data) if stored else {}
    notes = dict(_notes_of_content(stored)) if stored else {}
    true_expiry = _recorded_expiry(notes)
    if since and not data:
        notes.setdefault(PARKED_SINCE, show_time(since))
    parked = _noted(SecretDocument(key, data, {**notes, EXPIRY: show_time(until), TRUE_EXPIRY: true_expiry}, owner))
    if CONTENT not in notes:
        return parked
    # The data is as it was found, so what was known of it stays known: parking makes no edit of a stranger sound.
    kept = {name: notes[name] for name in (CONTENT, TIMES) if name in notes}
    others = {name: text for name, text in parked.annotations.items() if name != TIMES}
    return replace(parked, annotations={**others, **kept})


def latest_parking(document: SecretDocument | None, now: datetime) -> datetime:
    """Return up to when the gateway's annotation may be put off: its rotator has to wake before the credential expires.

    Without a credential it may sleep for LONGEST_PARKING from the first time on.
    """
    notes = _notes_of_content(document) if document else {}
    expires_at = read_time(_recorded_expiry(notes))
    if document and document.data and expires_at:
        return expires_at + GATEWAY_WAKES - GATEWAY_TAKES
    return min(read_time(notes.get(PARKED_SINCE)) or now, now) + LONGEST_PARKING


def parked_until(document: SecretDocument | None) -> datetime | None:
    """Return up to when the gateway's rotator takes the Secret for good; None if it does not."""
    return read_time(document.annotations.get(EXPIRY)) if document else None


def content_hash(data: Mapping[str, Sensitive]) -> str:
    """Hash all keys and values; only to notice a change, so 16 hex digits do."""
    digest = hashlib.sha256()
    for name in sorted(data):
        for part in (name, data[name].reveal()):
            # With the length before each part, so that no two different Secrets are one text; surrogates, since YAML
            # and JSON may bring them, and a hash must not fail where the write would.
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.hexdigest()[:16]


def request_note(text: str) -> str:
    """Return a policy's request for a renewal as it is noted; a long one by its hash."""
    if len(text) <= LONGEST_REQUEST:
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def show_time(moment: datetime) -> str:
    """Write RFC 3339 in UTC to the second, as the gateway does (a fraction is cut: never later than true)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def read_time(text: str | None) -> datetime | None:
    """Read RFC 3339 with any offset; None for anything else, and for what is before 1970 (Go's zero time)."""
    if not _RFC3339.fullmatch(text or ""):
        return None
    try:
        moment = datetime.fromisoformat(text or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _EPOCH else None
