"""A policy of which nothing was heard: its Secret is created without a look, and a conflict is decided as any other."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credrotator.core.errors import Denied, StoreAway, Transient
from credrotator.core.model import ObjectKey, fingerprint
from credrotator.core.secret_document import Absent, StoredSecret
from credrotator.core.secretdata import EXPIRY, render, show_time
from credrotator.core.sensitive import Sensitive
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.twins import (
    HOUR,
    KEY,
    NOW,
    SECRET,
    MemoryStore,
    ScriptedExchange,
    StandingClock,
    aws_credential,
    aws_policy,
    aws_source,
    document,
    no_secrets,
)

MINUTE = timedelta(minutes=1)


class CountingStore(MemoryStore):
    """Counts what it is asked for."""

    reads = 0

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """Count a read."""
        self.reads += 1
        return super().read(key)


class Site:
    """A store, and a rotation that has heard of nothing."""

    def __init__(self) -> None:
        self.store, self.clock = CountingStore(), StandingClock()
        self.exchange = ScriptedExchange(aws_credential(tag="NEW"), aws_credential(NOW + MINUTE, tag="NEWER"))
        self.rotation = Rotation(self.store, self.exchange, self.clock, cached_state=lambda _: Absent.ABSENT)

    def rotate(self, options: RotateOptions = RotateOptions()) -> tuple[str, str]:  # noqa: B008 - frozen
        """Make an attempt; return action and reason."""
        outcome = self.rotation(aws_policy(), no_secrets, options)
        return outcome.action, outcome.reason


@pytest.fixture
def site() -> Site:
    """Return a site without any Secret."""
    return Site()


@pytest.mark.parametrize("options", [RotateOptions(), RotateOptions(is_retry=True), RotateOptions(force=True)])
def test_one_request(site: Site, options: RotateOptions) -> None:
    """One write, no read; the outcome says that it was created."""
    outcome = site.rotation(aws_policy(), no_secrets, options)
    assert (outcome.action, outcome.reason, outcome.created) == ("rotated", "Missing", True)
    assert (site.store.reads, len(site.store.writes)) == (0, 1)


def test_invariant_03_what_is_there_all_the_same(site: Site) -> None:
    """The gateway's Secret, which is not among ours, is adopted after a conflict."""
    theirs = document(annotations=((EXPIRY, show_time(NOW + HOUR)),), credentials=aws_text())
    site.store.put(theirs)
    assert site.rotate() == ("kept", "Adopted")
    assert site.store.read(SECRET).document == theirs  # type: ignore[union-attr]
    assert not site.store.writes


def test_invariant_03_what_is_there_and_over(site: Site) -> None:
    """One that is due is replaced, by its version; the outcome is no creation."""
    site.store.put(render(SECRET, aws_credential(NOW - 2 * HOUR), fingerprint(aws_source())))
    outcome = site.rotation(aws_policy(), no_secrets, RotateOptions())
    assert (outcome.action, outcome.created) == ("rotated", False)
    assert len(site.exchange.calls) == 1


def test_what_was_issued_is_looked_for(site: Site) -> None:
    """A Secret of our own may be there and not heard of yet: read, and fresh."""
    assert site.rotate() == ("rotated", "Missing")
    assert site.rotate() == ("kept", "Fresh")
    assert (site.store.reads, site.exchange.calls) == (1, [KEY])


@pytest.mark.parametrize(
    "trouble", [Denied("Forbidden", "no", hint="grant"), StoreAway("ApiServer", "away", hint="wait")]
)
def test_fault_61_a_write_that_fails(site: Site, trouble: Denied | Transient) -> None:
    """The credential is held: the next attempt reads, since the write may have arrived, and issues nothing."""
    site.store.broken = trouble
    assert site.rotate() == ("failed", "Missing")
    site.store.broken = None
    assert site.rotate(RotateOptions(is_retry=True)) == ("rotated", "Missing")
    assert site.exchange.calls == [KEY]


def test_a_dry_run_looks(site: Site) -> None:
    """Nothing is written, so that there is nothing to find out by a conflict."""
    outcome = site.rotation(aws_policy(), lambda _: Sensitive("client secret"), RotateOptions(dry_run=True))
    assert (outcome.action, outcome.reason, outcome.created) == ("rotated", "Missing", False)
    assert (site.store.reads, site.store.writes, site.exchange.calls) == (1, [], [])


def aws_text() -> str:
    """Return the file of a credential that somebody else has issued."""
    found = render(SECRET, aws_credential(tag="THEIRS"), fingerprint(aws_source())).data["credentials"]
    return found.reveal()
