"""One of several daemons of one cluster, through all of its processes, and what each of them holds."""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from tests.reliability.soak import say

if TYPE_CHECKING:
    import signal

ROLES = ("standby", "leader", "former leader")
"""What is compared with itself only: one that has led holds what it needed for that, its caches and connections."""
GRACE_S = 12.0
GROWN = {"memory, MiB": (1.10, 6.0), "threads": (1.0, 3.0), "open files": (1.0, 10.0)}
"""By how much the last median may exceed the first: this share of it, and so much more."""


@dataclass
class Replica:
    """One of the daemons, through all of its processes; figures are those of the latest one."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    starts: int = 0
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    role: str = ""
    has_led: bool = False
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start a process; what was taken down of the one before is forgotten."""
        self.starts += 1
        self.has_led = False
        self.forget()
        with self.log.open("ab") as output:
            output.write(f"--- start {self.starts}\n".encode())
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output, env=self.environment)

    def forget(self) -> None:
        """Take figures down anew."""
        self.figures = {(role, name): [] for role in ROLES for name in GROWN}

    def end(self, number: signal.Signals) -> int:
        """Have it end, and return its exit code; kill it if it takes too long."""
        self.process.send_signal(number)
        try:
            return self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def sample(self) -> None:
        """Take down what it holds at this moment, by what it is: see ``ROLES``."""
        leads = self.leads()
        if leads is None:
            return
        self.has_led |= leads
        self.role = "leader" if leads else "former leader" if self.has_led else "standby"
        proc = Path(f"/proc/{self.process.pid}")
        with contextlib.suppress(OSError):
            status = proc.joinpath("status").read_text()
            found = {name: int(count) for name, count in re.findall(r"(VmRSS|Threads):\s+(\d+)", status)}
            self.figures[self.role, "memory, MiB"].append(found["VmRSS"] / 1024)
            self.figures[self.role, "threads"].append(found["Threads"])
            self.figures[self.role, "open files"].append(sum(1 for _ in proc.joinpath("fd").iterdir()))

    def leads(self) -> bool | None:
        """Tell whether it says that it leads; None where it says nothing."""
        addresses = re.findall(r"listening on (\S+)", self.log.read_text().rpartition("--- start")[2])
        with contextlib.suppress(requests.RequestException):
            if addresses:
                text = requests.get(f"http://{addresses[-1]}/metrics", timeout=5).text
                return re.search(r"^credrotator_leader 1", text, re.MULTILINE) is not None
        return None

    def latest(self) -> str:
        """Say what it held when it was looked at last."""
        held = [
            f"{figures[-1]:.0f} {name}"
            for (role, name), figures in self.figures.items()
            if role == self.role and figures
        ]
        return ", ".join([self.role or "starting", *held])

    def growth(self) -> list[str]:
        """Say what it holds more of in the last quarter of its time than in the first, in words."""
        grown = []
        for (role, name), figures in self.figures.items():
            if not figures:
                continue
            share, more = GROWN[name]
            quarter = max(1, len(figures) // 4)
            first, last = statistics.median(figures[:quarter]), statistics.median(figures[-quarter:])
            label = f"{self.name}, {role}: {name}"
            say(f"{label:<37} {first:.0f} at first, {last:.0f} at last, {max(figures):.0f} at most")
            if last > first * share + more:
                grown.append(f"the {self.name} daemon has grown as {role}: {name} {first:.0f}, then {last:.0f}")
        return grown
