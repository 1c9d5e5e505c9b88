"""A hostile tenant beside a fleet over a directory: policies of another namespace that fail in every way, and change.

Owns its manifests, and the servers that they lead to; the fleet's own are not touched.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from credrotator.sandbox import Answer, Drip, Role, ServiceError
from tests.reliability.siege_lines import CLOSED, HOSTILE, PATIENT_ROLE, ROLE, aws
from tests.support.cluster_policies import client_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from credrotator.sandbox import RecordedRequest, Sandbox

HOSTS, POLICIES = 16, 200
EVERY_S = 5.0


class Neighbour(threading.Thread):
    """Writes another set of hostile policies now and then; the same seed writes the same.

    Attributes:
        edits: How often it has done so.
    """

    def __init__(self, sandbox: Sandbox, manifests: Path, seed: int) -> None:
        super().__init__(name="neighbour", daemon=True)
        self.edits = 0
        self._sandbox, self._file = sandbox, manifests / "hostile.json"
        self._random = random.Random(seed)  # noqa: S311 - nothing depends on its being unforeseeable
        self._stopping = threading.Event()

    def run(self) -> None:
        """Be hostile until stopped."""
        issuer, sts = self._sandbox.issuer, self._sandbox.sts
        with contextlib.ExitStack() as stack:
            stack.enter_context(sts.faults.add(Answer(503, retry_after=3600), when=_asks_for(PATIENT_ROLE)))
            stack.enter_context(sts.faults.add(ServiceError("Throttling"), when=_asks_for(ROLE)))
            stack.enter_context(issuer.faults.add(Answer(500), path="/realms/fails/*"))
            stack.enter_context(issuer.faults.add(Drip(), path="/realms/drips/*"))
            hosts = [
                stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)).getsockname()[1]
                for _ in range(HOSTS)
            ]
            well = ROLE.replace("hostile", "well")
            sts.roles[well] = Role(issuer.url, forced_life=timedelta(minutes=1))
            kinds: list[tuple[str, str, dict[str, str]]] = [
                (issuer.url, ROLE, {}),
                (issuer.url, PATIENT_ROLE, {}),
                (issuer.url, ROLE.replace("hostile", "unknown"), {}),
                (issuer.url, well, {}),
                (issuer.url, ROLE, {"tokenEndpoint": CLOSED}),
                (f"{issuer.url}/realms/fails", ROLE, {}),
                (f"{issuer.url}/realms/drips", ROLE, {}),
                *((f"https://localhost:{port}", ROLE, {}) for port in hosts),
            ]
            while True:
                self._write([self._random.choice(kinds) for _ in range(POLICIES)])
                if self._stopping.wait(EVERY_S):
                    return

    def stop(self) -> None:
        """Stop, with its faults off."""
        self._stopping.set()
        self.join()

    def _write(self, chosen: list[tuple[str, str, dict[str, str]]]) -> None:
        policies = [
            aws(f"hostile-{number}", issuer, role=role, **provider)
            for number, (issuer, role, provider) in enumerate(chosen)
        ]
        listed: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": [*client_secrets(HOSTILE), *policies]}
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(listed))
        new.replace(self._file)
        self.edits += 1


def _asks_for(role: str) -> Callable[[RecordedRequest], bool]:
    def asks(request: RecordedRequest) -> bool:
        return request.form.get("RoleArn") == role

    return asks
