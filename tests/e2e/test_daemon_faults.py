"""The API server refuses, stumbles or does not answer, amid a rotation: nothing is lost, and nothing done twice.

Each test starts from a policy that was rotated, and ends with its Secret whole. What is asked of STS is counted.
"""

import base64
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Hang, Role
from tests.e2e import faulty_site
from tests.e2e.faulty_site import START, FaultySite
from tests.e2e.gateway_site import Destination
from tests.e2e.published import AwsCredential
from tests.support.cluster_policies import NAMESPACE, POLICIES, SECRETS, secret_of
from tests.support.parts import daemon
from tests.support.parts.api import Json, Name, Resource
from tests.support.parts.watching import Seen, watching
from tests.support.waiting import eventually

_LEASES = Resource("coordination.k8s.io/v1", "leases")
_LEADS = "credrotator_leader"
# The daemon's patience with an answer, and time for the retry after it.
_UNANSWERED = timedelta(seconds=70)
# A Lease of 15 s, a look every 2..4.4 s, and a busy machine.
_TAKEN_OVER = timedelta(seconds=40)
# For a second thought, if there was one: nothing is waited for but its absence.
_QUIET_S = 3.0
_MANY = 300
# An hour and its last two minutes, made short. Half a life is over before the server is away, as it takes a while to
# publish as many for the first time.
_CROWD, _LIFE, _BEFORE_EXPIRY = 200, timedelta(minutes=4), timedelta(seconds=25)
# After five writes at once one is made every 6 s.
_WAR_S, _WRITES_OF_WAR = 24.0, 5
_THEIRS = "python-requests"
_WARS: dict[str, Json] = {
    "data": {
        "data": {
            "credentials": base64.b64encode(
                b"[default]\naws_access_key_id=theirs\naws_secret_access_key=x\naws_session_token=x\nregion=us-east-1\n"
            ).decode()
        }
    },
    "label": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "another"}}},
    "annotation": {"metadata": {"annotations": {"credrotator.io/policy": "another"}}},
    "owner": {
        "metadata": {
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": "another",
                    "uid": "7d1b1c5e-0000-4000-8000-000000000000",
                }
            ]
        }
    },
}


@pytest.fixture
def faulty(prepared: Destination, request: pytest.FixtureRequest) -> Iterator[FaultySite]:
    """The cluster behind a door of this test's own."""
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)
    with faulty_site.behind(prepared, prepared.cluster.directory / name) as found:
        yield found


def _rotated(faulty: FaultySite, name: str) -> int:
    """Create a policy and wait for its first credential; return how often STS was asked so far."""
    faulty.add(name)
    faulty.wait(name, 0)
    return faulty.site.exchanges


def _is_held(faulty: FaultySite, name: str) -> Callable[[], bool]:
    return lambda: faulty.writes(name)[-1:] == [0]


def _settled(faulty: FaultySite, name: str, credentials: int) -> None:
    """See that no further credential comes, and that the one that is there is whole."""
    time.sleep(_QUIET_S)
    assert faulty.count(name) == credentials
    faulty.assert_whole(name)


def test_fault_26_somebody_touches_the_secret(faulty: FaultySite) -> None:
    """A write that meets 409 is decided again, with the credential in hand; what the other wrote beside it stays."""
    with faulty.daemon():
        asked = _rotated(faulty, "touched")
        held = faulty.front.hold(times=1, verb="update", resource="secrets", name=secret_of("touched"))
        faulty.edit("touched")
        eventually(_is_held(faulty, "touched"), 20)
        note = {"metadata": {"annotations": {"theirs": "kept"}}}
        faulty.site.cluster.api.patch(SECRETS, Name(NAMESPACE, secret_of("touched")), note)
        faulty.front.heal(held)
        faulty.wait("touched", 1)
        assert faulty.writes("touched") == [201, 409, 200]
        assert faulty.secret("touched")["metadata"]["annotations"]["theirs"] == "kept"
        assert faulty.site.exchanges == asked + 1


def test_fault_26_somebody_else_is_quicker(faulty: FaultySite) -> None:
    """A 409 because another one renewed it meanwhile: that one's credential is adopted, and the own one not written."""
    with faulty.daemon():
        asked = _rotated(faulty, "rivalled")
        held = faulty.front.hold(times=1, verb="update", resource="secrets", name=secret_of("rivalled"))
        faulty.edit("rivalled")
        eventually(_is_held(faulty, "rivalled"), 20)
        daemon.rotate(faulty.site.cluster.admin, faulty.site.sandbox, f"{NAMESPACE}/rivalled")
        rivals = faulty.wait("rivalled", 1)
        faulty.front.heal(held)
        eventually(lambda: faulty.writes("rivalled") == [201, 409], 20)
        _settled(faulty, "rivalled", 2)
        assert faulty.published.of(secret_of("rivalled"))[-1] == rivals
        assert faulty.site.exchanges == asked + 2


def test_fault_27_an_immutable_secret(faulty: FaultySite) -> None:
    """422 is told in an Event; the credential is kept in memory, and published when the Secret is out of the way."""
    api = faulty.site.cluster.api
    with faulty.daemon():
        asked = _rotated(faulty, "immutable")
        api.patch(SECRETS, Name(NAMESPACE, secret_of("immutable")), {"immutable": True})
        faulty.edit("immutable")
        eventually(lambda: "ApiServerInvalid" in _told(faulty, "immutable"), 20)
        assert faulty.count("immutable") == 1
        api.delete(SECRETS, Name(NAMESPACE, secret_of("immutable")))
        # What stands for the deletion is a publication too.
        faulty.wait("immutable", 2)
        assert faulty.site.exchanges == asked + 1


def _told(faulty: FaultySite, policy: str) -> str:
    """Return what the Events of a policy say."""
    selector = f"involvedObject.name={policy}"
    return faulty.site.cluster.kubectl("get", "events", "--namespace", NAMESPACE, "--field-selector", selector)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_fault_28_refused_for_a_while(faulty: FaultySite, status: int) -> None:
    """The same credential is written again, not sooner than the server asks for; STS is not asked for another."""
    name = f"refused-{status}"
    with faulty.daemon():
        asked = _rotated(faulty, name)
        faulty.front.fail(status, "Busy", times=2, retry_after_s=2, verb="update", resource="secrets")
        began_s = time.monotonic()
        faulty.edit(name)
        faulty.wait(name, 1)
        assert time.monotonic() - began_s >= 4
        assert faulty.writes(name) == [201, status, status, 200]
        assert faulty.site.exchanges == asked + 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_28_no_answer(faulty: FaultySite, when: str) -> None:
    """A connection that breaks tells nothing: read back, and called a failure and written again only if it was one."""
    name = f"dropped-{when}"
    with faulty.daemon():
        asked = _rotated(faulty, name)
        faulty.front.drop("after" if when == "after" else "before", times=1, verb="update", resource="secrets")
        faulty.edit(name)
        faulty.wait(name, 1)
        _settled(faulty, name, 2)
        assert faulty.writes(name) == ([201, 0] if when == "after" else [201, 0, 200])
        assert ("RotationFailed" in _told(faulty, name)) == (when == "before")
        assert faulty.site.exchanges == asked + 1


def test_fault_28_a_write_that_arrives_late(faulty: FaultySite) -> None:
    """A write that was given up and done again, and reaches the server all the same, meets 409 there."""
    with faulty.daemon():
        asked = _rotated(faulty, "late")
        held = faulty.front.hold(times=1, verb="update", resource="secrets", name=secret_of("late"))
        faulty.edit("late")
        faulty.wait("late", 1, within=_UNANSWERED)
        faulty.front.heal(held)
        eventually(lambda: faulty.writes("late") == [201, 409, 200], 20)
        _settled(faulty, "late", 2)
        assert faulty.site.exchanges == asked + 1


def test_fault_28_slow_answers(faulty: FaultySite) -> None:
    """Where each request takes seconds, it takes its time, and is done once."""
    with faulty.daemon():
        asked = _rotated(faulty, "slow")
        for verb in ("get", "update", "patch", "create"):
            faulty.front.delay(2.0, verb=verb)
        faulty.edit("slow")
        faulty.wait("slow", 1)
        _settled(faulty, "slow", 2)
        assert faulty.site.exchanges == asked + 1


def test_fault_33_lease_taken_before_the_write(faulty: FaultySite) -> None:
    """A leader whose Lease was taken while it waited for STS does not write what comes."""
    lease = Name(NAMESPACE, "taken")
    with faulty.daemon("--lease", f"{lease.namespace}/{lease.name}") as leader:
        _rotated(faulty, "unwritten")
        with faulty.site.sandbox.sts.faults.add(Hang()):
            faulty.edit("unwritten")
            assert faulty.site.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 1, 20.0)
            record = {"spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600}}
            faulty.site.cluster.api.patch(_LEASES, lease, record)
            assert leader.wait_for_metric(_LEADS, 0, within=START)
        assert faulty.site.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 0, 20.0)
        time.sleep(_QUIET_S)
        assert faulty.writes("unwritten") == [201]
        assert faulty.count("unwritten") == 1
        assert faulty.site.cluster.api.get(_LEASES, lease)["spec"]["holderIdentity"] == "another"


def test_fault_33_a_lease_that_cannot_be_renewed(faulty: FaultySite) -> None:
    """A few 500s cost no leadership; more than the deadline does, and then nothing is written until they are over."""
    with faulty.daemon("--lease", f"{NAMESPACE}/shaky") as leader:
        asked = _rotated(faulty, "shaky")
        faulty.front.fail(500, "InternalError", times=2, verb="update", resource="leases")
        eventually(lambda: [each.status for each in faulty.front.seen("update", "leases")].count(500) == 2, 20)
        faulty.edit("shaky")
        faulty.wait("shaky", 1)
        assert leader.metric(_LEADS) == 1

        faults = [faulty.front.fail(500, "InternalError", verb=verb, resource="leases") for verb in ("get", "update")]
        assert leader.wait_for_metric(_LEADS, 0, within=_TAKEN_OVER)
        written = faulty.writes("shaky")
        faulty.edit("shaky")
        time.sleep(_QUIET_S)
        assert faulty.writes("shaky") == written
        for fault in faults:
            faulty.front.heal(fault)
        faulty.wait("shaky", 2)
        assert faulty.site.exchanges == asked + 2


def test_fault_34_a_leader_behind_a_partition(faulty: FaultySite) -> None:
    """The leader is cut off with a write under way; the other takes over; then the network is whole again.

    The late write meets 409, nobody takes turns, and each of the two asked STS once for what was edited.
    """
    lease, site = Name(NAMESPACE, "parted"), faulty.site
    option = ("--lease", f"{lease.namespace}/{lease.name}")
    with faulty.daemon(*option, name="one") as one:
        asked = _rotated(faulty, "parted")
        assert one.metric(_LEADS) == 1
        with daemon.serving(site.cluster.admin, site.sandbox, *option, directory=faulty.directory, name="two") as two:
            write = faulty.front.hold(times=1, verb="update", resource="secrets", name=secret_of("parted"))
            faulty.edit("parted")
            eventually(_is_held(faulty, "parted"), 20)
            everything = faulty.front.hold()
            faulty.front.silence_watches()
            assert two.wait_for_metric(_LEADS, 1, within=_TAKEN_OVER)
            taken = faulty.wait("parted", 1)
            holder = site.cluster.api.get(_LEASES, lease)["spec"]["holderIdentity"]
            assert one.metric(_LEADS) == 0
            for fault in (write, everything):
                faulty.front.heal(fault)
            eventually(lambda: faulty.writes("parted") == [201, 409], 40)
            _settled(faulty, "parted", 2)
            assert faulty.published.of(secret_of("parted"))[-1] == taken
            assert site.cluster.api.get(_LEASES, lease)["spec"]["holderIdentity"] == holder
            assert (one.metric(_LEADS), two.metric(_LEADS)) == (0, 1)
            assert site.exchanges == asked + 2


def test_fault_35_killed_before_the_write(faulty: FaultySite) -> None:
    """Killed with the credential in hand: the old one stays, and the next start asks once more and writes once."""
    with faulty.daemon(name="killed") as first:
        asked = _rotated(faulty, "killed")
        old = faulty.secret("killed")["data"]
        faulty.front.hold(times=1, lose=True, verb="update", resource="secrets", name=secret_of("killed"))
        faulty.edit("killed")
        eventually(_is_held(faulty, "killed"), 20)
        first.kill()
    assert faulty.secret("killed")["data"] == old
    with faulty.daemon(name="next"):
        faulty.wait("killed", 1)
        _settled(faulty, "killed", 2)
    assert faulty.site.exchanges == asked + 2


def test_fault_50_told_to_stop_with_a_write_in_hand(faulty: FaultySite) -> None:
    """SIGTERM while the API server takes its time: the write is finished, and then it ends."""
    with faulty.daemon() as running:
        asked = _rotated(faulty, "ending")
        held = faulty.front.hold(times=1, verb="update", resource="secrets", name=secret_of("ending"))
        faulty.edit("ending")
        eventually(_is_held(faulty, "ending"), 20)
        running.process.send(signal.SIGTERM)
        time.sleep(1)
        faulty.front.heal(held)
        faulty.wait("ending", 1)
    assert faulty.site.exchanges == asked + 1


@pytest.mark.parametrize("what", ["deleted", "edited"])
def test_fault_43_while_sts_takes_its_time(faulty: FaultySite, what: str) -> None:
    """What was exchanged for a policy as it was is thrown away; nothing is made again for one that is gone."""
    name, api = f"gone-{what}", faulty.site.cluster.api
    with faulty.daemon():
        asked = _rotated(faulty, name)
        with faulty.site.sandbox.sts.faults.add(Hang(), times=1):
            faulty.edit(name)
            assert faulty.site.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 1, 20.0)
            if what == "edited":
                faulty.edit(name)
            else:
                api.delete(POLICIES, Name(NAMESPACE, name))
                api.delete(SECRETS, Name(NAMESPACE, secret_of(name)))
            # The daemon is to have heard of it when STS answers.
            time.sleep(1)
        if what == "edited":
            faulty.wait(name, 1)
            _settled(faulty, name, 2)
            assert faulty.site.exchanges == asked + 2
        else:
            assert faulty.site.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 0, 20.0)
            time.sleep(_QUIET_S)
            assert api.find(SECRETS, Name(NAMESPACE, secret_of(name))) is None
            assert faulty.writes(name) == [201]


def test_fault_48_hundreds_of_policies_at_once(faulty: FaultySite) -> None:
    """Each is exchanged once, a bounded number at a time, and each has its own credential."""
    names, sts = [f"crowd-{number}" for number in range(_MANY)], faulty.site.sandbox.sts
    with faulty.daemon():
        _rotated(faulty, "beside")
        sts.requests.clear()
        for name in names:
            faulty.add(name)
        for name in names:
            faulty.wait(name, 0, within=timedelta(minutes=4))
        assert sts.requests.count(method="POST") == _MANY
        assert sts.requests.peak_in_flight <= 16
    keys = {base64.b64decode(faulty.secret(name)["data"]["credentials"]) for name in names}
    assert len(keys) == _MANY


def test_fault_61_away_over_the_renewals(faulty: FaultySite) -> None:
    """200 policies; the API server is away over all of their renewals: none expires, and few ask the vendor twice.

    What was got early in the outage is due again after half of its life, which may be before it could be written.
    """
    names, site = [f"away-{number}" for number in range(_CROWD)], faulty.site
    site.sandbox.sts.roles[DEFAULT_ROLE] = Role(site.issuer, subject=DEFAULT_CLIENT, forced_life=_LIFE)
    try:
        with faulty.daemon():
            for name in names:
                faulty.add(name)
            for name in names:
                assert faulty.published.wait(secret_of(name), 0, within=START)
            expiries = {name: _expires_at(faulty, name) for name in names}
            first = min(expiries.values())
            assert datetime.now(UTC) < first - _LIFE / 2 - timedelta(seconds=15), (
                "the machine is too slow for this test"
            )
            asked = site.exchanges
            away = faulty.front.drop("before")
            faulty.front.cut_watches()
            time.sleep((first - _BEFORE_EXPIRY - datetime.now(UTC)).total_seconds())
            assert {faulty.count(name) for name in names} == {1}
            faulty.front.heal(away)
            for name in names:
                renewed = faulty.published.wait(secret_of(name), 1, within=_BEFORE_EXPIRY)
                assert renewed
                assert renewed.at < expiries[name]
            assert _CROWD <= site.exchanges - asked <= 2 * _CROWD
    finally:
        site.sandbox.sts.roles[DEFAULT_ROLE] = Role(site.issuer, subject=DEFAULT_CLIENT)


def _expires_at(faulty: FaultySite, name: str) -> datetime:
    """Return when what is published really expires; the gateway reads another time of so short a life."""
    file = base64.b64decode(faulty.secret(name)["data"]["credentials"]).decode()
    return faulty.site.sandbox.sts.sessions[AwsCredential.parse(file).key_id].expires


@pytest.mark.parametrize("part", _WARS)
def test_fault_62_who_puts_it_back_each_time(faulty: FaultySite, part: str) -> None:
    """Our writes become few, nothing is exchanged for them, and the other writer is named as the server knows it."""
    name = f"contested-{part}"
    with faulty.daemon():
        asked = _rotated(faulty, name)
        with _putting_back(faulty, name, _WARS[part]):
            eventually(lambda: _THEIRS in _told(faulty, name), 60)
            assert "ContestedWrite" in _told(faulty, name)
            before = len(faulty.writes(name))
            time.sleep(_WAR_S)
            assert 0 < len(faulty.writes(name)) - before <= _WRITES_OF_WAR
        eventually(lambda: _is_ours(faulty, name), 20)
        faulty.assert_whole(name)
        assert faulty.site.exchanges == asked


def _putting_back(faulty: FaultySite, name: str, theirs: Json) -> AbstractContextManager[None]:
    """Write one thing into a policy's Secret, and again whenever somebody has changed it."""
    api, at = faulty.site.cluster.api, Name(NAMESPACE, secret_of(name))

    def heed(seen: Seen) -> None:
        if seen.name == at.name and seen.kind != "DELETED" and not _holds(seen.object, theirs):
            api.patch(SECRETS, at, theirs)

    return watching(api, SECRETS, NAMESPACE, heed)


def _holds(present: object, wanted: object) -> bool:
    """Tell whether all of what is wanted is there."""
    if isinstance(wanted, dict) and isinstance(present, dict):
        return all(_holds(present.get(key), value) for key, value in wanted.items())
    return present == wanted


def _is_ours(faulty: FaultySite, name: str) -> bool:
    return not any(_holds(faulty.secret(name), theirs) for theirs in _WARS.values())
