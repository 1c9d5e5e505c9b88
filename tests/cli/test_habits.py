"""What people type by habit does what they mean by it, or is answered with what to type instead."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from credrotator import __version__
from credrotator.cli.habits import SYNONYMS, meant, without_equals
from credrotator.cli.main import COMMANDS, cli
from credrotator.cli.status_report import ORDERS, in_order, unwell_first
from credrotator.core.model import ObjectKey
from credrotator.diagnosis.overview import Row
from credrotator.sandbox import ServiceError
from tests.support.command_line import Backend, policy, run
from tests.support.twins import NOW

if TYPE_CHECKING:
    from credrotator.sandbox import Sandbox

ALL_STATES = ("Fresh", "Due", "Edited", "Parked", "Expired", "Missing", "Unreadable", "Invalid", "Broken")


def row(name: str, state: str = "Fresh", **changes: Any) -> Row:
    """Return a policy's row."""
    return Row(ObjectKey("default", name), "aws-oidc", state, **changes)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_as_a_command(name: str) -> None:
    """``help COMMAND`` says what ``COMMAND --help`` says."""
    asked = run("help", name)
    assert (asked.code, asked.out) == (0, run(name, "--help").out)


def test_help_and_version_as_commands() -> None:
    """Both are there without an argument, and are not listed beside the commands that do something."""
    assert run("help").out == run("--help").out
    assert __version__ in run("version").out
    assert not SYNONYMS.keys() & COMMANDS.keys()


@pytest.mark.parametrize(
    ("typed", "command"),
    [("stauts", "status"), ("rotte", "rotate"), ("get", "status"), ("validate", "check"), ("explian", "explain")],
)
def test_command_that_was_meant(typed: str, command: str) -> None:
    """A slip, and another program's word for it, are answered with the command."""
    ran = run(typed)
    assert ran.code == 2
    assert f"Did you mean '{command}'?" in ran.err


def test_nothing_is_guessed_from_nothing() -> None:
    """A word that is like no command gets no suggestion; ``help`` of it is a usage error."""
    assert meant("xyzzy", COMMANDS) == ""
    assert run("help", "xyzzy").code == 2


def test_option_before_the_command() -> None:
    """An option of a command before its name is answered with where it belongs; one of nobody's is unknown."""
    assert "behind" in run("-f", "x", "status").err
    assert "No such option '--nonsense'" in run("--nonsense", "status").err


@pytest.mark.parametrize("where", [("-o=json",), ("-o", "json"), ("-ojson",), ("--output=json",)])
def test_equals_sign_of_a_short_option(where: tuple[str, ...], world: Backend) -> None:
    """Pflag takes ``-o=json``, so kubectl's users type it."""
    world.static()
    ran = run("status", f"-f={world.manifests}", *where)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("{")


def test_whose_equals_sign_it_is() -> None:
    """A flag has no value, an empty one is not swallowed, and behind ``--`` stands another program's line."""
    params: list[click.Parameter] = [click.Option(["-o", "--output"]), click.Option(["-w"], is_flag=True)]
    typed = ["-o=a=b", "-w=x", "-o=", "--output=y", "--", "-o=json"]
    assert without_equals(typed, params) == ["-oa=b", *typed[1:]]


@pytest.mark.parametrize("name", COMMANDS)
def test_verbosity_behind_every_command(name: str) -> None:
    """``-v`` and ``-q`` are taken before and behind the name of a command."""
    context = click.Context(cli, info_name="credrotator")
    command = cli.get_command(context, name)
    assert command
    assert {"-v", "-q"} <= {option for found in command.params for option in found.opts}


@pytest.mark.parametrize("command", ["rotate", "status", "check"])
def test_names_that_commands_take(command: str, world: Backend) -> None:
    """``-o name`` prints policies as they are typed, one in a line."""
    world.static("one")
    world.static("two")
    ran = run(command, "-f", str(world.manifests), "--out", str(world.out), "-o", "name")
    assert ran.out == "default/one\ndefault/two\n"
    assert run(command, "-f", str(world.manifests), "--out", str(world.out), *ran.out.split()).code == 0


@pytest.mark.parametrize("command", ["rotate", "status", "check"])
def test_quiet_while_all_is_well(command: str, world: Backend, sandbox: Sandbox) -> None:
    """A job that went well prints nothing."""
    world.aws()
    (world.manifests / "notes.txt").write_text("passed over\n")
    options = ("-f", str(world.manifests), "--out", str(world.out))
    run("rotate", *options)
    ran = run(command, *options, "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize("command", ["rotate", "status", "check"])
def test_quiet_tells_failures(command: str, world: Backend, sandbox: Sandbox) -> None:
    """What failed is told with its advice, the rest is not."""
    world.aws("broken")
    world.static("fine")
    sandbox.sts.faults.add(ServiceError("AccessDenied"))
    options = ("-f", str(world.manifests), "--out", str(world.out))
    run("rotate", *options)
    ran = run("-q", command, *options)
    assert "AccessDenied" in ran.out
    assert "what to do" in ran.out
    assert "fine" not in ran.out
    assert run(command, *options, "-q", "-o", "name").out == "default/broken\n"


def test_manifests_without_a_directory(world: Backend) -> None:
    """Without ``--out``, reading commands say what the manifests tell; publishing needs to know where."""
    world.aws()
    files = ("-f", str(world.manifests))
    assert "Unknown" in run("status", *files).out
    assert run("status", *files, "--exit-code").code == 0
    ran = run("rotate", *files, "--dry-run")
    assert ran.code == 0, ran.err
    assert "rotated (dry run)" in ran.out
    assert run("rotate", *files).code == 2


def test_dry_run_reads_what_the_policy_names(world: Backend) -> None:
    """A dry run does not promise a rotation whose client secret is not there."""
    world.aws()
    for file in world.manifests.iterdir():
        documents = [each for each in yaml.safe_load_all(file.read_text()) if each["kind"] != "Secret"]
        file.write_text(yaml.safe_dump_all(documents))
    ran = run("rotate", "-f", str(world.manifests), "--dry-run")
    assert ran.code == 1
    assert "SecretNotFound" in ran.out


def test_no_time_at_all() -> None:
    """A time limit of nothing is a slip of the command line, no issuer that is slow."""
    ran = run("rotate", "-f", "x", "--timeout", "0s")
    assert ran.code == 2
    assert "expected more than 0s" in ran.err


@pytest.mark.parametrize("by", ORDERS)
def test_order(by: str) -> None:
    """Each order sorts by its column, and what has no value there comes last."""
    rows = [
        row("a", "Missing"),
        row("b", expires_at=NOW + timedelta(hours=2), renew_at=NOW + timedelta(hours=1)),
        row("c", expires_at=NOW + timedelta(hours=1), renew_at=NOW),
    ]
    names = "".join(found.policy.name for found in in_order(rows, by))
    assert names == {"expires": "cba", "renews": "cba"}.get(by, "abc")


def test_what_needs_attention_comes_first() -> None:
    """Of two hundred policies, a screen shows the unwell ones; otherwise they stay in order."""
    rows = [row(f"p{number:03}") for number in range(200)]
    rows[150] = replace(rows[150], state="Expired")
    rows[170] = replace(rows[170], last={"action": "failed"})
    assert [found.policy.name for found in unwell_first(rows)[:3]] == ["p150", "p170", "p000"]


@pytest.mark.parametrize("state", ALL_STATES)
def test_states_that_need_attention(state: str) -> None:
    """Whatever keeps a credential from being good, or soon will."""
    assert row("a", state).needs_attention is (state not in {"Fresh", "Due"})


def test_warnings_of_a_policy_in_all_outputs(world: Backend) -> None:
    """What is odd about a policy is told by table and JSON of ``rotate``, ``status`` and ``check``."""
    odd = policy("odd", "default", "APIKey", apiKey={"secretRef": {"name": "key"}}, nonsense={})
    world.write("odd", odd)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"apiKey": "k"}}
    world.write("key", secret)
    options = ("-f", str(world.manifests), "--out", str(world.out))
    for command in ("rotate", "status", "check"):
        for form in ("table", "json"):
            assert "spec.nonsense: unknown field" in run(command, *options, "-o", form).out, (command, form)
