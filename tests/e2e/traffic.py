"""Requests that flow through the gateway at a steady pace while a test does something else."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

_MOST_REQUESTS = 3000


@dataclass(frozen=True)
class Answers:
    """How the gateway answered, by status; 0 stands for no answer at all."""

    by_status: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.by_status.total()

    @property
    def failed(self) -> int:
        return self.total - self.by_status[200]


def ask(session: requests.Session, gateway: str, model: str) -> int:
    """Send one chat completion and return the status of the answer."""
    question: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    try:
        return session.post(f"{gateway}/v1/chat/completions", json=question, timeout=10).status_code
    except requests.RequestException:
        return 0


@contextmanager
def flowing(gateway: str, models: Sequence[str], *, per_second: int) -> Iterator[dict[str, Answers]]:
    """Send that many requests a second to each model until the block ends, and count the answers."""
    answers = {model: Answers() for model in models}
    stop = threading.Event()
    threads = [
        threading.Thread(target=_flow, args=(gateway, model, 1 / per_second, answers[model], stop)) for model in models
    ]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _flow(gateway: str, model: str, interval_s: float, answers: Answers, stop: threading.Event) -> None:
    due = time.monotonic()
    with requests.Session() as session:
        while not stop.wait(max(0.0, due - time.monotonic())) and answers.total < _MOST_REQUESTS:
            answers.by_status[ask(session, gateway, model)] += 1
            due += interval_s
