"""Write docs/cli.md, docs/reasons.md, the man page and the packages in docs/architecture.md; --check compares them.

They are made from the commands, the packages' docstrings and the reasons that the packages explain. What commands have
in common stands once. The text around the commands is here, all else is what ``--help`` says.
Source: man-pages(7), groff_man(7).
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from credrotator.cli.main import COMMANDS, cli
from credrotator.cli.options import PolicyCommand
from credrotator.diagnosis.reasons import explanations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.diagnosis.reasons import Explanation

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "credrotator"
_SEVERAL = {" ": "A B", ":": "A:B", "\n": "A↵B"}
"""How a cell shows that a variable takes several values."""
_RANGE = re.compile(r"^(\d+)<=x<=(\d+)$")
HEAD = """\
# Command line

This page has what `--help` says of each command. So does `man credrotator`, if the package is installed where man looks
(`share/man` beside its `bin`).

## What all commands share

Options can be given before or after names. Those with a variable in the tables below can be given by it or in a
configuration file, too; see [Configuration](configuration.md). Names select policies: `namespace/name`, or `name` in
the namespace of `-n` or of the context. Without names, all policies are selected, except by `renew` and
`credential-process`, which need them. In a cluster, `rotate`, `status`, `check` and `convert` know policies of the
context's namespace only; `-n` names others, and `-A` means all.

In the tables below, `A B` marks a variable that takes several values separated by spaces, `A:B` one whose values are
paths separated by colons, as in `PATH`, and `A↵B` one with a value in each line.

`-v` and `-q` stand before or behind the command's name. `-q` leaves failures only, so that a job that went well prints
nothing; `-o json` and `-o yaml` stay whole. `-o name` prints the policies as the commands take them, one in a line.
`-o=json` is the same as `-o json`, `credrotator help COMMAND` the same as `credrotator COMMAND --help`, and
`credrotator version` the same as `--version`.

With `-f` and without `--out`, `check` skips the delivery, `status` shows what the manifests say, and `rotate --dry-run`
takes nothing to be published.

Tables are coloured on a terminal. `NO_COLOR` turns colours off, `FORCE_COLOR` turns them on.
"""
EXIT_CODES_HEAD = """\
## Exit codes

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | some policies failed, or something could not be read |
| 2 | usage error: the command line, or a file that it names, cannot be used |
| 130, 143 | ended by Ctrl-C or SIGTERM, where that is no usual end (see below); published credentials stay |
| 141 | the reader of the output closed it |

In detail:

"""
COLUMNS = ("rotate", "status", "status --exit-code", "check", "convert")
EXIT_CODES = {
    "no policy failed": (0, 0, 0, 0, 0),
    "a policy was refused by its issuer or by the cloud": (1, 0, 1, 1, 0),
    "a policy cannot work as written": (1, 0, 1, 1, 1),
    "a Secret that a policy names is missing": (1, 0, 1, 1, 0),
    "one of several manifests cannot be read": (1, 0, 1, 1, 1),
    "a file or directory that is named does not exist": (2, 2, 2, 2, 2),
    "a policy that is named does not exist": (2, 2, 2, 2, 2),
    "the manifests of `-f` have no policy, or none that `-n` and `-l` select": (2, 2, 2, 2, 2),
    "a cluster has no policy, or none that `-n` and `-l` select": (0, 0, 0, 0, 0),
    "an option is unknown, or its value is not allowed": (2, 2, 2, 2, 2),
    "this account may not list the policies of the cluster": (2, 2, 2, 1, 2),
    "the API server cannot be reached": (2, 2, 2, 2, 2),
}
"""What happened, and what the commands of ``COLUMNS`` end with; a test makes each of it happen."""
EXIT_CODES_TAIL = """\
`status --exit-code` is shown as it is after `rotate`. It ends with 1 if a policy needs attention: its state is none of
Fresh, Due, Static, NotSupported and Unknown, or the latest attempt failed.

A new cluster has no policies, and a job that runs before the first one is no failure: one line on standard error says
that there are none. `check` still tests the account's rights.

`credential-process` ends with 0 if it printed a credential, also one that could not be renewed and is still valid, and
with 1 if there is none or it could not be written. `run` ends with 0 after SIGTERM or Ctrl-C, `status --watch` after
Ctrl-C. `sandbox` ends with its command's exit code, 128 + N where signal N ended it, and with 0 after SIGTERM or Ctrl-C
where there is no command. `wait` ends with 1 when the time is up. Where a cluster has no policy that is selected, it
waits for one. `renew` ends as `rotate` does.
"""
REASONS_HEAD = """\
# Reasons

Every outcome has a reason: in tables, in `-o json`, in conditions and Events, in the log, and as a label of metrics.
This page says what each means and what to do. `credrotator explain REASON` says the same in a terminal.

What happens next depends on the kind of a failure. **transient**: credrotator tries again soon, with back-off.
**denied**: it tries again slowly, as somebody has to grant or correct something; an edit of the policy or of its client
secret is tried at once. **policy**: only an edit helps. The last good credential stays in all cases.
"""
COMPLETION = """\
## Shell completion

Standard streams that are closed are no error. If the output cannot be written, because a disk is full for example, one
line on standard error says so. The exit code of `rotate` still tells what was published; the commands that only print
end with 1.

`credrotator completion SHELL` prints a script for bash (4.4 or newer), zsh or fish. It completes commands, options,
formats, files, the policies and namespaces of the manifests that `-f` names, and the kubeconfig's contexts:

```sh
source <(credrotator completion bash)     # in ~/.bashrc
credrotator completion zsh > "${fpath[1]}/_credrotator"
credrotator completion fish > ~/.config/fish/completions/credrotator.fish
```
"""
MAN_END = """\
.SH EXIT STATUS
.TP
0
success
.TP
1
some policies failed, or something could not be read
.TP
2
usage error
.TP
130, 143
ended by Ctrl\\-C or SIGTERM; published credentials stay. Where that is the usual end, it is 0: of run and sandbox,
and of status \\-\\-watch after Ctrl\\-C
.TP
141
the reader of the output closed it
.SH ENVIRONMENT
The variables named with the options above; options win over variables, which win over the file of \\-\\-config.
Also KUBECONFIG, HTTPS_PROXY, HTTP_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, AWS_CA_BUNDLE, AWS_ENDPOINT_URL_STS,
AWS_USE_FIPS_ENDPOINT, AZURE_AUTHORITY_HOST, AI_GATEWAY_STS_PROXY_URL, AI_GATEWAY_AZURE_PROXY_URL, NO_COLOR,
FORCE_COLOR and OTEL_EXPORTER_OTLP_ENDPOINT.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield all commands with their names, in the order of ``--help``."""
    root = click.Context(cli, info_name="credrotator")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None  # noqa: S101 - it is listed
        yield name, command, click.Context(command, info_name=name, parent=root)


def options(command: click.Command) -> list[click.Option]:
    """Return a command's options, in the order of ``--help``."""
    return [found for found in command.params if isinstance(found, click.Option)]


def shared() -> dict[str, click.Option]:
    """Return the options of all commands that read policies, by what ``--help`` shows of them.

    A command may have another option of the same name in its place, which stands in its own table.
    """
    readers = [command for _, command, _ in commands() if isinstance(command, PolicyCommand)]
    found = [option for command in readers for option in options(command)]
    had_by = Counter(option.opts[-1] for option in found)
    meant_by = Counter(described(option) for option in found)
    return {
        " ".join(described(option)): option
        for option in found
        if had_by[option.opts[-1]] == len(readers) and meant_by[described(option)] > len(readers) / 2
    }


def common_head() -> str:
    """Return who has the common options, and who has another one of the same name."""
    common = shared()
    reading = [(name, command) for name, command, _ in commands() if isinstance(command, PolicyCommand)]
    others = [f"`{name}`" for name, command, _ in commands() if not isinstance(command, PolicyCommand)]
    own = [
        f"`{name}` has a `{option.opts[-1]}` of its own. "
        for name, command in reading
        for option in options(command)
        if " ".join(described(option)) not in common and option.opts[-1] in {each.opts[-1] for each in common.values()}
    ]
    have = f"{_listed([f'`{name}`' for name, _ in reading])} have these options. {''.join(own)}"
    return _wrapped(f"{have}{_listed(others)} have `-v` and `-q` only.")


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def described(option: click.Option) -> tuple[str, str]:
    """Return an option's names with its value, and what it means, without what stands in brackets behind it."""
    context = click.Context(click.Command("x"))
    record = option.get_help_record(context)
    assert record is not None  # noqa: S101 - none of ours is hidden
    extra = option.get_help_extra(context)
    text = option.help or ""
    if "default" in extra:
        text += f" [default: {extra['default']}]"
    if "range" in extra:
        text += " [" + _RANGE.sub(r"\1 to \2", extra["range"]) + "]"
    return record[0], text


def variable(option: click.Option) -> str:
    """Return the variable that an option can be set by."""
    return str(option.envvar or "")


def separator(option: click.Option) -> str:
    """Return what separates several values in an option's variable; nothing where it takes one value."""
    if not option.multiple or not option.envvar:
        return ""
    return " " if option.type.envvar_list_splitter is None else option.type.envvar_list_splitter


def paragraphs(command: click.Command) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a command's help text; True: an example, as it stands."""
    for part in re.split(r"\n\s*\n", _dedented(command.help or "")):
        if not part.startswith("\b"):
            yield False, " ".join(part.split())
            continue
        lines = part.splitlines()[1:]
        if lines[0].strip() == "Examples:":
            lines = lines[1:]
        yield True, "\n".join(line.strip() for line in lines)


def _dedented(text: str) -> str:

    return inspect.cleandoc(text)


def markdown() -> str:
    """Return docs/cli.md."""
    common = shared()
    parts = [HEAD, exit_codes(), f"## Common options\n\n{common_head()}\n\n{_rows([*common.values()])}"]
    parts += [f"## credrotator\n\n{_prose(cli)}\n{_rows(options(cli))}"]
    for name, command, context in commands():
        own = [option for option in options(command) if " ".join(described(option)) not in common]
        usage = f"```text\ncredrotator {name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
        also = "The common options" if isinstance(command, PolicyCommand) else "`-v`, `-q`"
        also += ", and:\n\n" if own else ".\n"
        parts.append(f"## credrotator {name}\n\n{usage}\n{_prose(command)}\n{also}{_rows(own)}".rstrip() + "\n")
    return "\n".join([*parts, COMPLETION])


def exit_codes() -> str:
    """Return the chapter on exit codes."""
    lines = [("", *(f"`{name}`" for name in COLUMNS)), tuple("---" for _ in range(len(COLUMNS) + 1))]
    lines += [(what, *map(str, codes)) for what, codes in EXIT_CODES.items()]
    table = "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)
    return f"{EXIT_CODES_HEAD}{table}\n\n{EXIT_CODES_TAIL}"


def _prose(command: click.Command) -> str:
    return "\n".join(
        f"```sh\n{text}\n```\n" if example else f"{_wrapped(_code(text))}\n" for example, text in paragraphs(command)
    )


def _code(text: str) -> str:
    """Mark options as what is typed, and keep ``<OPTION>`` from being taken for HTML."""
    text = re.sub(r"(?<![\w`-])(-o (?:wide|json|yaml|terraform)|--?[a-zA-Z][\w-]*)", r"`\1`", text)
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")


def _wrapped(text: str, width: int = 120) -> str:

    return "\n".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def _rows(found: list[click.Option]) -> str:
    if not found:
        return ""
    rows = []
    for option in found:
        names, text = described(option)
        # A pipe in a cell, the same for every reader of Markdown.
        typed = f"<code>{names.replace('|', '&#124;')}</code>" if "|" in names else f"`{names}`"
        rows.append(f"| {typed} | {_code(text)} | {_variable_cell(option)} |\n")
    return "| option | meaning | variable |\n|---|---|---|\n" + "".join(rows)


def _variable_cell(option: click.Option) -> str:
    several = f", `{_SEVERAL[separator(option)]}`" if separator(option) in _SEVERAL else ""
    return f"`{variable(option)}`{several}" if variable(option) else ""


def man() -> str:
    """Return the man page; without a date, so that it changes with the commands only."""
    common = shared()
    page = ['.TH CREDROTATOR 1 "" credrotator "User Commands"\n', ".SH NAME\n", "credrotator \\- "]
    page += ["keep the cloud credentials of an Envoy AI Gateway fresh\n", ".SH SYNOPSIS\n"]
    for name, command, context in commands():
        page.append(f".B credrotator {name}\n{_roff(' '.join(command.collect_usage_pieces(context)))}\n.br\n")
    page += [".SH DESCRIPTION\n", _man_prose(cli), ".SH COMMON OPTIONS\n"]
    page += [f".PP\n{_roff(common_head().replace('`', ''))}\n", *map(_man_option, common.values())]
    page += [*map(_man_option, options(cli)), ".SH COMMANDS\n"]
    for name, command, _ in commands():
        page += [f".SS credrotator {name}\n", _man_prose(command)]
        page += [_man_option(option) for option in options(command) if " ".join(described(option)) not in common]
    return "".join([*page, MAN_END])


def _man_prose(command: click.Command) -> str:
    return "".join(
        f".PP\n.nf\n.RS 4\n{_roff(text)}\n.RE\n.fi\n" if example else f".PP\n{_roff(text)}\n"
        for example, text in paragraphs(command)
    )


def _man_option(option: click.Option) -> str:
    names, text = described(option)
    named = f" Variable {variable(option)}." if variable(option) else ""
    return f".TP\n.B {_roff(names)}\n{_roff(text + named)}\n"


def _roff(text: str) -> str:
    """Escape what groff would take for its own: backslashes, hyphens that are typed, dots at the start of a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def reasons() -> str:
    """Return docs/reasons.md."""
    known = explanations()
    parts = [REASONS_HEAD]
    # What people run into first comes first; what needs no action comes last.
    for title in sorted({each.title for each in known}, key=lambda title: (title == "Decisions", title)):
        parts.append(f"## {title}\n")
        parts += [_reason(each) for each in known if each.title == title]
    return "\n".join(parts)


def _reason(known: Explanation) -> str:
    """Return one reason, with an anchor for each of its names."""
    first, *others = known.names
    anchors = "".join(f'<a id="{name}"></a>' for name in others)
    shown = known.name.replace("<", "&lt;").replace(">", "&gt;")
    identity = "" if "<" in first else f" {{#{first}}}"
    also = f"{anchors}Here {', '.join(f'`{name}`' for name in known.names)}.\n\n" if others else ""
    kind = f" (*{known.kind}*)" if known.kind else ""
    cause, cure = _wrapped(known.cause + kind), _wrapped(f"**What to do:** {known.cure}")
    return f"### {shown}{identity}\n\n{also}{cause}\n\n{cure}\n"


def architecture() -> str:
    """Return docs/architecture.md with the packages as they are."""
    begin, end = "<!-- packages -->\n", "<!-- /packages -->"
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    head, tail = page[: page.index(begin)], page[page.index(end) :]
    return f"{head}{begin}{packages()}{tail}"


def packages() -> str:
    """Return a table of all packages, with the first sentence of their docstrings."""
    rows = "".join(f"| `{path}` | {sentence} |\n" for path, sentence in _packages())
    return f"| package | what it has |\n| --- | --- |\n{rows}"


def _packages() -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*/__init__.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        paragraph = (ast.get_docstring(module) or "").split("\n\n")[0]
        yield str(file.parent.relative_to(PACKAGE)), " ".join(paragraph.split())


PAGES = {"cli.md": markdown, "credrotator.1": man, "architecture.md": architecture, "reasons.md": reasons}


def main() -> int:
    """Write the pages, or compare them."""
    stale = [name for name, write in PAGES.items() if not _is(DOCS / name, write())]
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"docs/{name} is not what the commands say; write it by: make reference\n")
        return int(bool(stale))
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
