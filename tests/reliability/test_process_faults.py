"""Processes that are killed, told to stop, or have no room left to write: nothing is lost, torn or mixed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.kube import deferred
from credrotator.kube.client import leader_election
from credrotator.rotation import daemon
from credrotator.sandbox import Answer, Hang, Sandbox
from tests.reliability.children import Child, running
from tests.reliability.fleet import NAMESPACE, Broken, Fleet, Reader, aws_policy, client_secret
from tests.reliability.places import ClusterPlace, DirectoryPlace, Place, sessions_of
from tests.support.kube.simulator import ApiServer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.sandbox import Fault, RequestLog

KILLS = int(os.environ.get("KILLS", "50"))
POLICIES = [f"policy-{number}" for number in range(6)]
AT_ONCE = 3
WINDOW_S = 0.03
"""Longest time from a request at STS to the kill; a publication is over by then, or is just beginning."""
START_S = 60.0
STOP_S = 10.0
HASTE = {"credrotator.rotation.daemon:STOP_S": 1.5, "credrotator.kube.client.leader_election:STOP_S": 0.5}
"""What a daemon may take for its end in the worst case, made so short that a busy machine does not count."""


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox for each test: its sessions are the account of what was exchanged."""
    with Sandbox(tmp_path / "sandbox") as started:
        yield started


@pytest.fixture
def directory_place(sandbox: Sandbox, tmp_path: Path) -> DirectoryPlace:
    """A directory with manifests."""
    return DirectoryPlace(sandbox, directory=tmp_path)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A simulated API server."""
    with ApiServer() as started:
        yield started


@pytest.fixture
def cluster_place(sandbox: Sandbox, server: ApiServer, tmp_path: Path) -> ClusterPlace:
    """A cluster with a client Secret."""
    return ClusterPlace(sandbox, server=server, kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))


@pytest.fixture
def dice() -> random.Random:
    """Random moments; the seed is printed, and SEED in the environment sets it."""
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it where a test fails
    return random.Random(seed)  # noqa: S311 - nothing depends on its being unforeseeable


class Account:
    """Who was exchanged how often, and how much of it ever became visible."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._visible: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self.wasted = 0

    def settle(self, died: str) -> None:
        """Look at everything after a process has died: each policy was exchanged once by it, at most."""
        # What it had asked for may still be on its way through a busy STS, and would be counted as the next one's.
        self._place.sandbox.sts.drop_connections()
        assert self._place.sandbox.sts.requests.wait_for(lambda seen: seen.in_flight == 0, START_S)
        for policy, sessions in sessions_of(self._place).items():
            new = len(sessions) - self._counts.get(policy, 0)
            assert new <= 1, f"{died} exchanged {policy} {new} times"
            self._counts[policy] = len(sessions)
            found = self._place.published(policy)
            if policy in self._visible:
                assert found is not None, f"{died} lost the credential of {policy}"
                assert found.expires > datetime.now(UTC)
            if found is None:
                self.wasted += new
                continue
            ours = [session.access_key_id for session in sessions]
            known = ours.index(self._visible[policy]) if policy in self._visible else -1
            assert ours.index(found.access_key_id) >= known, f"{died} put an older credential of {policy} back"
            self.wasted += new if found.access_key_id == self._visible.get(policy) else 0
            self._visible[policy] = found.access_key_id


def _kill_again_and_again(
    place: Place, environment: dict[str, str], log: Path, dice: random.Random, capfd: pytest.CaptureFixture[str]
) -> None:
    account, started = Account(place), time.monotonic()
    sts = place.sandbox.sts.requests
    for policy in POLICIES:
        place.edit(policy)
    for number in range(KILLS):
        for policy in dice.sample(POLICIES, AT_ONCE):
            place.edit(policy)
        name, workers = "run" if number % 2 else "rotate", dice.choice([1, 16])
        wanted, wasted = sts.total + dice.randint(1, AT_ONCE), account.wasted
        with running(*place.command(name), "--workers", str(workers), log=log, environment=environment):
            assert sts.wait_for(_reaches(wanted), START_S), log.read_text()
            # The one sleep that is what the test is about: the moment of the kill.
            threading.Event().wait(dice.uniform(0, WINDOW_S))
        account.settle(f"{name} {number}")
        assert account.wasted <= wasted + min(workers, len(POLICIES))
    due = {policy for policy in POLICIES if not _is_current(place, policy)}
    before = {policy: len(sessions) for policy, sessions in sessions_of(place).items()}
    with running(*place.command("rotate"), log=log, environment=environment) as last:
        assert last.wait(START_S) == 0, log.read_text()
    exchanged = {policy for policy, sessions in sessions_of(place).items() if len(sessions) > before[policy]}
    assert exchanged == due, "what the last one found due, and nothing else, was exchanged"
    account.settle("the last one")
    assert all(_is_current(place, policy) for policy in POLICIES)
    assert set(place.history()) <= {session.access_key_id for each in sessions_of(place).values() for session in each}
    total = sum(len(sessions) for sessions in sessions_of(place).values())
    with capfd.disabled():
        took_s = time.monotonic() - started
        print(f"\n{KILLS} kills in {took_s:.0f} s: {total} exchanges, {account.wasted} cut off from their write")  # noqa: T201
    assert account.wasted > 0, "no kill fell between exchange and write: the window is too short or too long"


def _reaches(total: int) -> Callable[[RequestLog], bool]:
    return lambda seen: seen.total >= total


def _is_current(place: Place, policy: str) -> bool:
    """Tell whether what is published is for the policy as it is now."""
    found = place.published(policy)
    return found is not None and f":assumed-role/{place.roles[policy].rpartition('/')[2]}/" in found.arn


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fault_35_killed_over_a_directory(
    directory_place: DirectoryPlace, tmp_path: Path, dice: random.Random, capfd: pytest.CaptureFixture[str]
) -> None:
    """Kill -9 between exchange and write: readers find old or new, whole; the next start rotates what is due, once."""
    fleet = Fleet(directory_place.sandbox, tmp_path, 0, ())
    fleet.policies = dict.fromkeys(POLICIES, timedelta(minutes=30))
    reader = Reader(fleet, timedelta(milliseconds=20))
    reader.start()
    try:
        _kill_again_and_again(directory_place, directory_place.environment(), tmp_path / "log", dice, capfd)
    finally:
        reader.stop()
    assert not reader.complaints
    assert not reader.expiries
    assert reader.reads > KILLS


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fault_35_killed_over_an_api_server(
    cluster_place: ClusterPlace, tmp_path: Path, dice: random.Random, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same over an API server, where every version that a Secret ever had must be whole."""
    _kill_again_and_again(cluster_place, cluster_place.environment(), tmp_path / "log", dice, capfd)


class TestStop:
    """Fault 50: SIGTERM at any moment ends the daemon within ten seconds, with the Lease released."""

    SIDE_BY_SIDE = 4

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "make", [None, Hang, lambda: Answer(503)], ids=["nothing wrong", "exchanges hang", "backing off"]
    )
    def test_fault_50_sigterm(
        self,
        sandbox: Sandbox,
        server: ApiServer,
        tmp_path: Path,
        dice: random.Random,
        make: Callable[[], Fault] | None,
    ) -> None:
        """Also while exchanges hang, or are put off; a random moment between birth and three seconds of age."""
        if make:
            sandbox.issuer.faults.add(make())
        environment = {**os.environ, **sandbox.environment()}
        kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
        spaces = [f"team-{number}" for number in range(self.SIDE_BY_SIDE)]
        with contextlib.ExitStack() as stack:
            children = []
            for space in spaces:
                server.create("secrets", client_secret(namespace=space))
                manifest = aws_policy("bedrock", sandbox.issuer.url, next(iter(sandbox.sts.roles)), space)
                server.create("backendsecuritypolicies", manifest)
                arguments = ["run", "--kubeconfig", str(kubeconfig), "-n", space, "--lease", f"{space}/credrotator"]
                log = tmp_path / f"{space}.log"
                started = running(*arguments, log=log, environment=environment, constants=HASTE)
                children.append(stack.enter_context(started))
            if make is Hang:
                # Here the moment is given: all of them are in the middle of an exchange.
                assert sandbox.issuer.requests.wait_for(lambda seen: seen.in_flight >= self.SIDE_BY_SIDE, START_S)
            ended = [threading.Thread(target=_stop, args=(child, dice.uniform(0, 3))) for child in children]
            for each in ended:
                each.start()
            for each in ended:
                each.join(30)
            for child, space in zip(children, spaces, strict=True):
                # 143 where the command had not begun yet, -15 where not even Python's handlers were there.
                assert child.wait(0) in {0, 143, -15}, child.said()
                assert "Traceback" not in child.said()
                lease = server.get("leases", "credrotator", space)
                assert lease is None or lease["spec"]["holderIdentity"] == "", child.said()
            assert make is not Hang or all(child.wait(0) == 0 for child in children)


@pytest.mark.slow
def test_fault_50_nothing_answers(cluster_place: ClusterPlace, server: ApiServer, tmp_path: Path) -> None:
    """Neither STS nor the API server say a word, so the Lease cannot be released: ten seconds all the same."""
    cluster_place.edit("bedrock")
    arguments = ["run", "--kubeconfig", str(cluster_place.kubeconfig), "-n", NAMESPACE]
    environment = cluster_place.environment()
    with running(*arguments, log=tmp_path / "log", environment=environment, constants=HASTE) as child:
        child.wait_until_said("published")
        with cluster_place.sandbox.sts.faults.add(Hang()):
            cluster_place.edit("bedrock")
            assert cluster_place.sandbox.sts.requests.wait_for(lambda log: log.in_flight == 1, START_S)
            hanging = server.delay(float("inf"))
            eventually(lambda: any(request.status == 0 for request in server.seen("update", "leases")))
            _stop(child, 0)
            server.heal(hanging)
        assert child.wait(0) == 0, child.said()


def _stop(child: Child, after_s: float) -> None:
    """Send SIGTERM after some time, and see that it is obeyed in time; raises into the thread's hook if not."""
    child.wait(after_s)
    told_s = time.monotonic()
    child.send(signal.SIGTERM)
    code = child.wait(STOP_S)
    assert code is not None, f"still there {time.monotonic() - told_s:.1f} s after SIGTERM:\n{child.said()}"


def test_fault_50_ten_seconds_in_the_worst_case() -> None:
    """Workers that hang, Events that wait, and a server that takes no Lease back, one after the other."""
    assert daemon.STOP_S + deferred.LAST_WRITES_S + leader_election.STOP_S <= STOP_S


class SmallDisk:
    """A file system of 256 KiB, and the shell of its mount namespace."""

    def __init__(self, path: Path, shell: subprocess.Popen[bytes], mounted: Path) -> None:
        self.path = path
        self._shell, self._mounted = shell, mounted

    def allow_writing(self, *, yes: bool) -> None:
        """Let everybody write there, or nobody."""
        command = f"mount -o remount,{'rw' if yes else 'ro'} '{self._mounted}' && echo done\n"
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(command.encode())
        self._shell.stdin.flush()
        assert self._shell.stdout.readline() == b"done\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, which anybody may have; it goes with its shell."""
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o size=256k,mode=0700 tmpfs '{place}' && echo there && exec sh"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if holder.stdout.readline() != b"there\n":
            pytest.skip("no mount namespace is to be had here")
        yield SmallDisk(Path(f"/proc/{holder.pid}/root{place}"), holder, place)
        holder.stdin.close()


def test_fault_36_what_can_be_written_to_again(sandbox: Sandbox, small_disk: SmallDisk, tmp_path: Path) -> None:
    """All that waited for a directory that was read-only are written when it is not; each has cost one exchange."""
    place = DirectoryPlace(sandbox, directory=tmp_path)
    place.out = small_disk.path / "out"
    for policy in POLICIES:
        place.edit(policy)
    # Their own next tries come when this test is long over.
    patience = dict.fromkeys(("transient", "denied", "policy"), timedelta(minutes=8))
    constants = {"credrotator.core.backoff:FIRST": patience, "credrotator.app.directory_daemon:TRIAL_EVERY_S": 0.5}
    environment = place.environment()
    with running(*place.command("run"), log=tmp_path / "log", environment=environment, constants=constants) as child:
        eventually(lambda: all(_is_current(place, policy) for policy in POLICIES), START_S)
        small_disk.allow_writing(yes=False)
        for policy in POLICIES:
            place.edit(policy)
        for policy in POLICIES:
            child.wait_until_said(f"{policy}: NotWritable")
        assert not any(_is_current(place, policy) for policy in POLICIES)
        small_disk.allow_writing(yes=True)
        eventually(lambda: all(_is_current(place, policy) for policy in POLICIES), START_S)
    assert {policy: len(sessions) for policy, sessions in sessions_of(place).items()} == dict.fromkeys(POLICIES, 2)


@pytest.mark.slow
def test_fault_36_disk_full(sandbox: Sandbox, small_disk: SmallDisk, tmp_path: Path) -> None:
    """A full disk: the old file stays, the reason is said; with room again, the credential in hand is written."""
    place = DirectoryPlace(sandbox, directory=tmp_path)
    place.out = small_disk.path / "out"
    place.edit("bedrock")
    with running(*place.command("run"), log=tmp_path / "log", environment=place.environment()) as child:
        child.wait_until_said("published")
        old = place.published("bedrock")
        filler = small_disk.path / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        place.edit("bedrock")
        child.wait_until_said("bedrock: DiskFull")
        assert place.published("bedrock") == old
        assert "No space left on device" in child.said()
        assert len(sessions_of(place)["bedrock"]) == 2
        filler.unlink()
        child.wait_until_said("SpecChanged): expiry")
        assert len(sessions_of(place)["bedrock"]) == 2, "it was exchanged again"
        child.send(signal.SIGTERM)
        assert child.wait(STOP_S) == 0
    assert _is_current(place, "bedrock")
    left = {path.name for path in (place.out / NAMESPACE / "ai-eg-bsp-bedrock").iterdir()}
    assert not {name for name in left if name.endswith(".tmp")}


def test_a_torn_credential_would_be_noticed(directory_place: DirectoryPlace, tmp_path: Path) -> None:
    """The judge itself: parts of two sessions, or another policy's credential, are called broken."""
    for policy in POLICIES[:2]:
        directory_place.edit(policy)
    with running(
        *directory_place.command("rotate"), log=tmp_path / "log", environment=directory_place.environment()
    ) as child:
        assert child.wait(START_S) == 0, child.said()
    one, two = (directory_place.out / NAMESPACE / f"ai-eg-bsp-{policy}" / "credentials" for policy in POLICIES[:2])
    mixed = one.read_text().splitlines()[:2] + two.read_text().splitlines()[2:]
    foreign = two.read_text()
    for text in ("\n".join(mixed), foreign, one.read_text()[:40]):
        one.write_text(text)
        with pytest.raises(Broken):
            directory_place.published(POLICIES[0])
