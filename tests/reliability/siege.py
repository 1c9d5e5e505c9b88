"""``make siege``: a real daemon, a neighbour who does all that a tenant can do, and what the others notice of it.

One process of the daemon over a simulated API server, with the sandbox behind it. Each line of ``siege_lines`` in turn
does its worst from the namespace ``hostile`` while the victims are renewed again and again, and while new policies of a
third namespace come. The table goes to standard output; with ``SIEGE_WRITE=1`` in the environment into
``docs/reliability.md`` too. ``SIEGE`` sets the seconds of a line. The exit code is 1 if a victim's credential expired.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.sandbox import Role, Sandbox
from tests.reliability.children import Child, running
from tests.reliability.fleet import SHORT_FRACTION, read_profile
from tests.reliability.siege_lines import HOSTILE, LINES, REGION, Ground, Line
from tests.support.cluster_policies import aws_exchange, azure_federated, client_secrets, policy
from tests.support.kube.simulator import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from credrotator.sandbox.sigv4 import Session
    from tests.support.parts.api import Json

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- siege -->\n", "<!-- /siege -->"
VICTIMS, NEWCOMERS = "victims", "newcomers"
VICTIM_ROLE = "arn:aws:iam::111111111111:role/victim"
LIFE = timedelta(seconds=30)
POLICIES = [f"victim-{number}" for number in range(6)]
LENGTH_S = 22.0
POLL_S = 0.05
NEWCOMER_EVERY_S = 6.0
SETTLE_S = 60.0
LATE_GOAL_S, NEW_GOAL_S = 1.0, 3.0


@dataclass
class Result:
    """What the others noticed of one line."""

    title: str
    expired_s: float = 0.0
    late_s: float = 0.0
    renewals: int = 0
    new_s: list[float] = field(default_factory=list)
    rss_mib: float = 0.0
    remark: str = ""

    def row(self) -> str:
        """Return a row of the table."""
        waits = f"{max(self.new_s):.1f}" if self.new_s else "-"
        figures = f"{self.expired_s:.0f} | {self.late_s:.1f} | {self.renewals} | {waits} | {self.rss_mib:.0f}"
        return f"| {self.title} | {figures} | {self.remark} |"


class Watch(threading.Thread):
    """Looks at what is published for the victims, and for whoever is new."""

    def __init__(self, sandbox: Sandbox, server: ApiServer, daemon: Child) -> None:
        super().__init__(name="watch", daemon=True)
        self._sandbox, self._server, self._daemon = sandbox, server, daemon
        self._lock = threading.Lock()
        self._result = Result("")
        self._latest: dict[str, Session] = {}
        self._awaited: dict[str, float] = {}
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        last_s = time.monotonic()
        while not self._stopping.wait(POLL_S):
            now_s = time.monotonic()
            with self._lock:
                for name in POLICIES:
                    self._look(name, now_s - last_s)
                for name in [name for name in self._awaited if self._secret(NEWCOMERS, name)]:
                    self._result.new_s.append(now_s - self._awaited.pop(name))
                self._result.rss_mib = max(self._result.rss_mib, self._rss_mib())
            last_s = now_s

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()
        self.join()

    def begin(self, title: str) -> Result:
        """Count for another line from now on."""
        with self._lock:
            self._result = Result(title)
            return self._result

    def expect(self, name: str) -> None:
        """Measure how long a new policy waits."""
        with self._lock:
            self._awaited[name] = time.monotonic()

    def give_up(self) -> None:
        """Count those that still wait for as long as they have waited."""
        with self._lock:
            self._result.new_s += [time.monotonic() - since_s for since_s in self._awaited.values()]
            self._awaited.clear()

    def is_quiet(self) -> bool:
        """Tell whether all victims have a credential that is not due, and nobody new waits."""
        now = datetime.now(UTC)
        with self._lock:
            fresh = [name for name, session in self._latest.items() if session.expires - LIFE * 0.5 > now]
            return len(fresh) == len(POLICIES) and not self._awaited

    def _look(self, name: str, passed_s: float) -> None:
        secret = self._secret(VICTIMS, name)
        if secret is None:
            return
        key_id, _, _ = read_profile(base64.b64decode(secret["data"]["credentials"]).decode())
        session, before = self._sandbox.sts.sessions[key_id], self._latest.get(name)
        if session is not before:
            self._latest[name] = session
            if before:
                late = (session.expires - before.expires) - LIFE * SHORT_FRACTION
                self._result.late_s = max(self._result.late_s, late.total_seconds())
                self._result.renewals += 1
        if session.expires <= datetime.now(UTC):
            self._result.expired_s += passed_s

    def _secret(self, namespace: str, name: str) -> Json | None:
        return self._server.get("secrets", f"ai-eg-bsp-{name}", namespace)

    def _rss_mib(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self._daemon.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


class Siege:
    """The victims, the newcomers, and one line after the other."""

    def __init__(self, ground: Ground, watch: Watch, length_s: float) -> None:
        self._ground, self._watch, self._length_s = ground, watch, length_s
        self._newcomers = 0

    def settle(self) -> bool:
        """Wait until all victims are fresh; tell whether that came about."""
        give_up_s = time.monotonic() + SETTLE_S
        while not self._watch.is_quiet():
            if time.monotonic() > give_up_s:
                return False
            time.sleep(POLL_S)
        return True

    def line(self, line: Line) -> Result:
        """Let one line do its worst."""
        result = self._watch.begin(line.title)
        ends_s = time.monotonic() + self._length_s
        with line.attack(self._ground) as remark:
            next_s = time.monotonic() + 1.0
            while time.monotonic() < ends_s:
                time.sleep(POLL_S)
                if time.monotonic() >= next_s and ends_s - time.monotonic() > NEW_GOAL_S:
                    next_s += NEWCOMER_EVERY_S
                    self._newcomer(line.vendor)
            self._watch.give_up()
            result.remark = remark()
        self._clear()
        return result

    def _newcomer(self, vendor: str) -> None:
        self._newcomers += 1
        name, issuer = f"new-{self._newcomers}", self._ground.sandbox.issuer.url
        made = aws(name, issuer, NEWCOMERS) if vendor == "aws" else azure_federated(name, issuer, namespace=NEWCOMERS)
        self._watch.expect(name)
        self._ground.server.create("backendsecuritypolicies", made)

    def _clear(self) -> None:
        server = self._ground.server
        for namespace in (HOSTILE, NEWCOMERS):
            for item in server.items("backendsecuritypolicies", namespace):
                server.delete("backendsecuritypolicies", item["metadata"]["name"], namespace)
        server.collect_garbage()


def aws(name: str, issuer: str, namespace: str) -> Json:
    """Return a policy that works."""
    exchange = {**aws_exchange(issuer, VICTIM_ROLE, namespace), "region": REGION}
    return policy(name, {"type": "AWSCredentials", "awsCredentials": exchange}, namespace=namespace)


@contextlib.contextmanager
def besieged(directory: Path, length_s: float) -> Iterator[Siege]:
    """Start everything, with the victims served."""
    with Sandbox(directory / "sandbox") as sandbox, ApiServer() as server:
        sandbox.sts.roles[VICTIM_ROLE] = Role(sandbox.issuer.url, forced_life=LIFE)
        for namespace in (VICTIMS, NEWCOMERS, HOSTILE):
            for secret in client_secrets(namespace):
                server.create("secrets", secret)
        for name in POLICIES:
            server.create("backendsecuritypolicies", aws(name, sandbox.issuer.url, VICTIMS))
        log = directory / "daemon.log"
        arguments = [
            "run", "-A", "--kubeconfig", str(server.kubeconfig(directory / "kubeconfig")), "--no-leader-elect",
            "--listen", "127.0.0.1:0", "--allowed-issuer", "https://localhost:*",
            "--allowed-issuer", "https://localhost:*/*",
        ]  # fmt: skip
        environment = {**os.environ, **sandbox.environment()}
        with running(*arguments, log=log, environment=environment) as daemon:
            daemon.wait_until_said("listening on")
            found = re.search(r"listening on (\S+)", daemon.said())
            assert found is not None
            watch = Watch(sandbox, server, daemon)
            watch.start()
            siege = Siege(Ground(sandbox, server, found[1]), watch, length_s)
            if not siege.settle():
                raise SystemExit(f"the victims were never served:\n{daemon.said()[-2000:]}")
            yield siege
            watch.stop()


def run(lines: Sequence[Line], length_s: float) -> list[Result]:
    """Let each line do its worst, and print what came of it."""
    results = []
    with tempfile.TemporaryDirectory(prefix="credrotator-siege-") as name, besieged(Path(name), length_s) as siege:
        for line in lines:
            results.append(siege.line(line))
            if not siege.settle():
                results[-1].remark += "; the victims did not recover"
            sys.stdout.write(results[-1].row() + "\n")
            sys.stdout.flush()
    return results


def table(results: Sequence[Result]) -> str:
    """Return the results as a page shows them."""
    head = [
        "| what a neighbour does | expired, s | late, s | renewals | new policy waits, s | memory, MiB | besides |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    return "\n".join([*head, *(result.row() for result in results)]) + "\n"


def put_into(page: str, text: str) -> str:
    """Return the page with the text between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{text}{END}{after}"


def main() -> None:
    """Run it as the environment says."""
    length_s = float(os.environ.get("SIEGE", LENGTH_S))
    wanted = sys.argv[1:]
    lines = [line for line in LINES if not wanted or any(word in line.title for word in wanted)]
    results = run(lines, length_s)
    text = table(results)
    sys.stdout.write(f"\n{text}")
    if os.environ.get("SIEGE_WRITE"):
        PAGE.write_text(put_into(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    sys.exit(1 if any(result.expired_s or "not recover" in result.remark for result in results) else 0)


if __name__ == "__main__":
    main()
