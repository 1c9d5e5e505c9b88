"""Every reason that the package gives is explained, and nothing is explained that no code gives."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from credrotator.cli.main import cli
from credrotator.core import errors
from credrotator.core.errors import Abandoned, RotationError
from credrotator.core.planning import Reason
from credrotator.diagnosis.reasons import explain, explanations
from credrotator.kube.conditions import READY

PACKAGE = Path(__file__).resolve().parents[2] / "credrotator"
KINDS = {"", "transient", "denied", "policy", "denied or transient", "transient, denied or policy"}
CLASSES = {
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, RotationError | Abandoned)
} | {"AuthenticationRefused", "_Cause"}
"""What takes a reason first."""
HAND_ON = {"policy_events.py", "events.py"}
"""Modules that write Events for others."""
FAMILY = re.compile(r"^\{[^{}]*\}([A-Z]\w+)$")
"""An f-string of an endpoint's name and what happened there."""


def _given() -> set[str]:
    """Return all reasons that stand in the code; ``<Endpoint>…`` for those of any endpoint."""
    given: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and _name(node.func) in CLASSES:
                given |= set(_reasons(node.args[0]))
    return given


def _name(function: ast.expr) -> str:
    return getattr(function, "id", getattr(function, "attr", ""))


def _reasons(value: ast.expr) -> list[str]:
    match value:
        case ast.Constant(value=str(reason)):
            return [reason]
        case ast.IfExp(body=first, orelse=second):
            return _reasons(first) + _reasons(second)
        case ast.JoinedStr():
            family = FAMILY.match(ast.unparse(value)[2:-1])
            return [f"<Endpoint>{family[1]}"] if family else []
        case _:
            return []


def test_every_reason_is_explained() -> None:
    """A reason that the code gives has an entry in the ``reasons.toml`` of a package."""
    known = {name for each in explanations() for name in (each.name, *each.names)}
    assert _given() - known == set()
    assert {str(reason) for reason in Reason} <= known


def _events() -> set[str]:
    """Return the reasons of all Events that the code emits."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        module = ast.parse(file.read_text(encoding="utf-8"))
        constants = _constants(module)
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or _name(node.func) != "emit" or file.name in HAND_ON:
                continue
            # What logging emits has one argument.
            for reason in node.args[1:2]:
                given = [constants[reason.id]] if isinstance(reason, ast.Name) else _reasons(reason)
                assert given, f"{file}:{node.lineno}: its reason does not stand there"
                found |= set(given)
    return found


def _constants(module: ast.Module) -> dict[str, str]:
    """Return a module's names for texts, also of several in one line."""
    constants: dict[str, str] = {}
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(value=str(text))):
                constants[name] = text
            case ast.Assign(targets=[ast.Tuple(names)], value=ast.Tuple(values)):
                pairs = zip(names, values, strict=True)
                constants |= {ast.unparse(name): ast.unparse(value).strip("'") for name, value in pairs}
            case _:
                pass
    return constants


def test_every_event_is_explained() -> None:
    """``kubectl describe`` shows these reasons, and that of a condition that is true; the page lists the Events."""
    given = _events()
    assert {"RotationFailed", "Rotated", "Repaired", "DeliveryBehind"} <= given
    assert {reason for reason in (*given, READY) if explain(reason) is None} == set()
    page = (PACKAGE.parent / "docs" / "beside-the-gateway.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| Events \| (.+) \|$", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == given


def test_no_entry_without_code() -> None:
    """Whatever is explained stands somewhere in the code, whole or as a vendor's code."""
    code = "\n".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    for each in explanations():
        stems = [each.name.replace("<Endpoint>", "")]
        vendors = re.match(r"AADSTS([0-9]+)|Google([A-Z]\w+)|ApiServer([A-Z]\w+)", each.name)
        if vendors:
            word = next(part for part in vendors.groups() if part)
            stems += [word, re.sub("(?<=[a-z])(?=[A-Z])", "_", word).upper(), word.lower(), _snake(word)]
        assert each.pattern or any(stem in code for stem in stems), each.name


def _snake(word: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", word).lower()


def test_entries_are_whole() -> None:
    """Names are unique, kinds are known, causes and cures are sentences."""
    names = [name for each in explanations() for name in each.names]
    assert len(names) == len(set(names))
    for each in explanations():
        assert each.kind in KINDS, each.name
        for text in (each.cause, each.cure):
            assert text[0].isupper() or text[0] == "`", (each.name, text)
            assert text.endswith("."), (each.name, text)


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("IssuerTLS", "<Endpoint>TLS"),
        ("StsBusy", "<Endpoint>Busy"),
        ("AADSTS700213", "AADSTS700213"),
        ("AADSTS50034", "AADSTS<code>"),
        ("GoogleSomethingNew", "Google<Code>"),
        ("Expiring", "Expiring"),
        ("RotationFailed", "RotationFailed"),
    ],
)
def test_explain(reason: str, name: str) -> None:
    """A reason is found by its own name, else by the family of vendor's codes."""
    known = explain(reason)
    assert known is not None
    assert known.name == name


def test_explain_command() -> None:
    """It explains one, lists all, and says which was meant."""
    runner = CliRunner()
    one = runner.invoke(cli, ["explain", "SecretNotFound", "-o", "json"], standalone_mode=False)
    assert json.loads(one.output)["kind"] == "policy"
    text = runner.invoke(cli, ["explain", "AADSTS50034"], standalone_mode=False).output
    assert text.startswith("AADSTS50034 (one of AADSTS<code>)\n  what happened: ")
    assert "`" not in text
    failed = runner.invoke(cli, ["explain", "RotationFailed"], standalone_mode=False).output
    assert "what happens next: it depends on the reason that the message begins with" in failed
    every = runner.invoke(cli, ["explain"], standalone_mode=False).output
    assert {line.split()[0] for line in every.splitlines()} == {name for each in explanations() for name in each.names}
    wrong = runner.invoke(cli, ["explain", "issuertl"], standalone_mode=False)
    assert isinstance(wrong.exception, errors.UsageError)
    assert "did you mean IssuerTLS" in str(wrong.exception)
