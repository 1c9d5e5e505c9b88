"""``--help`` teaches with examples that parse, and docs and man page say what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from credrotator.cli.main import COMMANDS, cli
from credrotator.cli.options import PolicyCommand
from tests.support.command_line import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = ["", *COMMANDS]
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


def help_of(name: str) -> str:
    """Return what a command's ``--help`` prints; the program's own for an empty name."""
    ran = run(*([name] if name else []), "--help")
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def examples(name: str) -> list[str]:
    """Return the commands among a help's examples, as they are typed."""
    _, _, rest = help_of(name).partition("Examples:\n")
    block = rest.split("\n\n")[0]
    return [line.strip() for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]


def own_parts(line: str) -> list[list[str]]:
    """Return the calls of credrotator in a line of shell: before and after pipes, in substitutions, in the sandbox."""
    found = []
    for part in re.split(r"[|]|<\(|\)(?=\s|$)", re.sub(r"'[^']*'", "'x'", line)):
        words = shlex.split(re.sub(r">\s*\S+.*$", "", part))
        while "credrotator" in words:
            words = words[words.index("credrotator") + 1 :]
            inner = words.index("credrotator") if "credrotator" in words else len(words)
            found.append(words[:inner])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_examples_parse(name: str) -> None:
    """Each example is one that the commands take, option by option and argument by argument."""
    listed = examples(name)
    assert listed
    parts = [words for line in listed for words in own_parts(line)]
    assert parts
    for words in parts:
        context = click.Context(cli, info_name="credrotator")
        command = cli.get_command(context, words[0])
        assert command, words
        command.make_context(words[0], words[1:], parent=context)
    if name:
        assert any(words[0] == name for words in parts)


def test_what_would_not_parse() -> None:
    """The reading of examples finds what it is made for."""
    assert own_parts("kubectl get x -o yaml | credrotator rotate -f - -o json") == [["rotate", "-f", "-", "-o", "json"]]
    assert own_parts("source <(credrotator completion bash)") == [["completion", "bash"]]
    assert own_parts("credrotator sandbox -- credrotator check -f x > y") == [["sandbox", "--"], ["check", "-f", "x"]]
    context = click.Context(cli, info_name="credrotator")
    command = cli.get_command(context, "rotate")
    assert command
    with pytest.raises(click.NoSuchOption):
        command.make_context("rotate", ["--no-such-option"], parent=context)


@pytest.mark.parametrize("page", ["cli.md", "credrotator.1"])
@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_documented(name: str, page: str) -> None:
    """What ``--help`` lists stands in the reference and in the man page, in the command's part or in the common one."""
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\-", "-")
    _, _, listed = help_of(name).partition("Options:\n")
    heads = [re.split(r" {2,}", line.strip())[0] for line in listed.splitlines() if line.startswith("  -")]
    options = {found for head in heads for found in OPTION.findall(head)}
    assert options - {"--help", "-h"} or name == "completion"
    documented = set(OPTION.findall(text))
    assert options - {"--help", "-h"} - documented == set()


def options_of(name: str) -> list[click.Option]:
    """Return the options of a command."""
    command = cli.get_command(click.Context(cli, info_name="credrotator"), name)
    assert command
    return [option for option in command.params if isinstance(option, click.Option)]


def reads_policies(name: str) -> bool:
    """Tell whether a command reads policies, and so has the common options."""
    return isinstance(cli.get_command(click.Context(cli, info_name="credrotator"), name), PolicyCommand)


def common_chapter() -> tuple[str, set[str]]:
    """Return what docs/cli.md says of the common options, and their names."""
    _, _, chapter = (DOCS / "cli.md").read_text(encoding="utf-8").partition("\n## Common options\n\n")
    said, _, table = chapter.partition("\n## ")[0].partition("| option |")
    rows = re.findall(r"^\| (?:`|<code>)(.+?)(?:`|</code>) \|", table, re.MULTILINE)
    return " ".join(said.split()), {name for row in rows for name in OPTION.findall(row)}


def test_common_options_are_common() -> None:
    """Every command that is said to have them takes each of them, and the others take -v and -q alone."""
    said, common = common_chapter()
    assert {"--filename", "--timeout", "--quiet"} <= common
    having, _, others = said.partition(" have these options. ")
    assert re.findall(r"`([a-z-]+)`", having) == [name for name in COMMANDS if reads_policies(name)]
    for name in COMMANDS:
        taken = {text for option in options_of(name) for text in option.opts}
        if reads_policies(name):
            assert common - taken == set(), name
        else:
            assert common & taken <= {"-v", "--verbose", "-q", "--quiet"}, name
            assert f"`{name}`" in others


def test_common_options_mean_the_same() -> None:
    """What an option means stands in the common table for all commands, unless the page says that one has its own."""
    said, common = common_chapter()
    own = set(re.findall(r"`([a-z-]+)` has a `(--[a-z-]+)` of its own", said))
    meanings: dict[str, dict[str, set[str]]] = {}
    for name in filter(reads_policies, COMMANDS):
        for option in options_of(name):
            if option.opts[-1] in common and (name, option.opts[-1]) not in own:
                meanings.setdefault(option.opts[-1], {}).setdefault(str(option.help), set()).add(name)
    assert own == {("wait", "--timeout")}
    assert {option: found for option, found in meanings.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", [name for name in COMMANDS if reads_policies(name)])
def test_the_file_takes_what_has_a_variable(name: str, tmp_path: Path) -> None:
    """docs/configuration.md: an option with a variable may stand in the file, one without it is unknown there."""
    settable = {option.opts[-1] for each in COMMANDS for option in options_of(each) if option.envvar} - {"--config"}
    program = click.Context(cli, info_name="credrotator")
    command = cli.get_command(program, name)
    assert command
    file = tmp_path / "config.yaml"
    arguments = ["--config", str(file), *(["prod/x"] if name == "credential-process" else [])]
    for option in {option.opts[-1] for option in options_of(name)}:
        file.write_text(f"{option.lstrip('-')}:\n", encoding="utf-8")
        if option in settable:
            command.make_context(name, arguments, parent=program)
        else:
            with pytest.raises(click.BadParameter, match="unknown settings"):
                command.make_context(name, arguments, parent=program)


def test_options_for_the_command_line_only() -> None:
    """The options that docs/configuration.md names as such have a variable in no command."""
    text = " ".join((DOCS / "configuration.md").read_text(encoding="utf-8").split())
    named = re.findall(r"--[a-z-]+", text.partition("an option without one, such as ")[2].partition(", is for")[0])
    assert len(named) > 1
    for name in named:
        found = [option for command in COMMANDS for option in options_of(command) if name in option.opts]
        assert found
        assert not [option for option in found if option.envvar]


def test_commands_that_need_a_name() -> None:
    """docs/cli.md: without names, renew and credential-process are usage errors, and ask for them."""
    assert [run(name).code for name in ("renew", "credential-process")] == [2, 2]
    assert "name the policies" in run("renew").err
    assert "NAMESPACE/NAME" in run("credential-process").err


def test_reference_and_man_page_are_as_the_commands_are() -> None:
    """Both are made from the commands: ``make reference`` after a change."""
    command = [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_the_man_page_is_sound() -> None:
    """Groff has nothing to complain of, and examples stand line by line."""
    command = ["groff", "-man", "-ww", "-Tascii", "-P-cbou", str(DOCS / "credrotator.1")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "MANWIDTH": "100"})
    assert ended.stderr == ""
    assert re.search(r"^ +credrotator status -A --watch$", ended.stdout, re.MULTILINE)
    assert "--leader-elect / --no-leader-elect" in ended.stdout


def test_variables_can_be_set() -> None:
    """Every variable has a name that a shell takes."""
    context = click.Context(cli, info_name="credrotator")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command
        for option in command.params:
            assert option.envvar is None or re.fullmatch(r"CREDROTATOR_[A-Z_]+", str(option.envvar))
