"""The log's two forms: which one when, what a line says of itself, and that neither shows a secret."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from credrotator.cli.options import reading_options
from credrotator.core import attempts as looks
from credrotator.core.model import ObjectKey
from credrotator.core.sensitive import Sensitive
from credrotator.observability.logs import AUDIT, IN_A_CLUSTER, Form, JsonFormatter, install
from credrotator.observability.redaction import FORMAT, LONGEST, MASK, MaskingFormatter

if TYPE_CHECKING:
    from pathlib import Path

KEY = ObjectKey("default", "x")
MOMENT = datetime(2026, 11, 24, 7, 49, 25, 318_999, tzinfo=UTC)
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
PEM = "-----BEGIN PRIVATE KEY-----\nMII"


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def hooks_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no hook behind; handlers and levels are put back after every test."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


def record(name: str, message: str, *, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    """Make a record as logging would."""
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, None, info)
    made.created = MOMENT.timestamp()
    if fields:
        made.__dict__["fields"] = fields
    return made


def read(name: str, message: str, *, error: BaseException | None = None, **fields: object) -> Any:
    """Return what a line of JSON says."""
    line = JsonFormatter().format(record(name, message, error=error, **fields))
    assert "\n" not in line
    return json.loads(line)


def test_json() -> None:
    """Time in UTC to the millisecond, level, logger, message; then the record's own fields, as they are."""
    assert read("credrotator.audit", "said", old=None, leader=True, count=3) == {
        "time": "2026-11-24T07:49:25.318Z",
        "level": "warning",
        "logger": "credrotator.audit",
        "message": "said",
        "old": None,
        "leader": True,
        "count": 3,
    }


def test_text() -> None:
    """The same time; within a look its policy, unless the message names it, and its rotation."""
    formatter = MaskingFormatter(FORMAT)
    assert formatter.format(record("credrotator", "said")) == "2026-11-24T07:49:25.318Z WARNING said"
    with looks.attempting(KEY) as look:
        assert formatter.format(record("credrotator", "said")).endswith(f"WARNING said [default/x {look.rotation}]")
        named = formatter.format(record("credrotator", "default/x: said", error=LookupError("why")))
        assert named.splitlines()[0].endswith(f"WARNING default/x: said [{look.rotation}]")
        assert named.splitlines()[-1] == "LookupError: why"


def test_a_look_is_in_every_line() -> None:
    """Vendors' lines too; two looks have two ids; afterwards there is none, and another thread has none."""
    with looks.attempting(KEY) as first:
        said = read("botocore.parsers", "said")
        assert (said["policy"], said["rotation"]) == ("default/x", first.rotation)
        with looks.attempting(KEY) as second:
            assert read("credrotator", "said")["rotation"] == second.rotation != first.rotation
        found: list[looks.Attempt | None] = []
        thread = threading.Thread(target=lambda: found.append(looks.current()))
        thread.start()
        thread.join()
        assert found in ([None], [first])  # Python 3.14 may hand the context on
    assert "rotation" not in read("credrotator", "said")
    with looks.continuing(first):
        assert read("credrotator", "said")["rotation"] == first.rotation
    assert copy_context().run(looks.current) is None


@pytest.mark.parametrize("text", [f"with {JWT}", f"line\n{JWT}", f'"{JWT}"', PEM, "http://me:pass@host/"])
def test_shapes_in_json(text: str) -> None:
    """Masked before it is encoded, in the message as in a field: the line stays JSON, and its other members whole."""
    for said in (read("credrotator.check", text, hint="do"), read("credrotator.check", "said", detail=text, hint="do")):
        assert MASK in said["message"] + said.get("detail", "")
        assert said["hint"] == "do"
        for part in ("eyJ", "MII", "pass@"):
            assert part not in json.dumps(said)


def test_vendors_in_json() -> None:
    """By name and by value, also in tracebacks; what they call ``fields`` themselves is none of ours."""
    held = Sensitive('s3cret "value"')
    assert read("urllib3.connectionpool", f"got {held.reveal()}")["message"] == f"got {MASK}"
    assert (
        read("botocore.parsers", '{"access_token": "a\\"b", "n": 1}')["message"]
        == f'{{"access_token": {MASK}, "n": 1}}'
    )
    failed = read("credrotator", "failed", error=LookupError(held.reveal()))
    assert f"LookupError: {MASK}" in failed["traceback"]
    assert "s3cret" not in json.dumps(failed)
    assert "other" not in read("msal.application", "said", other="x")
    long = read("botocore.parsers", "x" * (LONGEST + 1))
    assert long["message"].endswith("characters, too many to look for secrets in")
    assert held


@pytest.mark.parametrize(
    ("form", "stream", "environment", "expected"),
    [
        ("auto", io.StringIO(), {}, "text"),
        ("auto", io.StringIO(), {IN_A_CLUSTER: "10.0.0.1"}, "json"),
        ("auto", Terminal(), {IN_A_CLUSTER: "10.0.0.1"}, "text"),
        ("json", Terminal(), {}, "json"),
        ("text", io.StringIO(), {IN_A_CLUSTER: "10.0.0.1"}, "text"),
    ],
)
def test_which_form(form: Form, stream: io.StringIO, environment: dict[str, str], expected: str) -> None:
    """JSON where machines read; and there the audit records are written at any verbosity."""
    install(stream, form, environment)
    logging.getLogger("credrotator.x").critical("said")
    said = stream.getvalue()
    assert said.startswith("{") == (expected == "json")
    assert logging.getLogger(AUDIT).isEnabledFor(logging.INFO) == (expected == "json")


def test_an_uncaught_error(capsys: pytest.CaptureFixture[str]) -> None:
    """What ends a process or a thread is one line of JSON as well."""
    held = Sensitive("s3cret-value")
    install(sys.stderr, "json")

    def fail() -> None:
        raise LookupError(held.reveal())

    thread = threading.Thread(target=fail, name="worker-1")
    thread.start()
    thread.join()
    try:
        fail()
    except LookupError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["thread worker-1 ended by an error", "ended by an error"]
    assert all(f"LookupError: {MASK}" in line["traceback"] and line["level"] == "critical" for line in lines)


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_the_option(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, a variable, or a line of the config file."""
    file = tmp_path / "config.yaml"
    file.write_text("log-format: json\n")
    arguments = {"flag": ["--log-format", "json"], "variable": [], "file": ["--config", str(file)]}[way]
    if way == "variable":
        monkeypatch.setenv("CREDROTATOR_LOG_FORMAT", "json")

    @click.command()
    @reading_options
    def command(**_: object) -> None:
        logging.getLogger("credrotator.x").critical("said")

    ended = CliRunner().invoke(command, arguments)
    assert json.loads(ended.stderr)["message"] == "said"
