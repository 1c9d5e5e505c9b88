"""Write docs/cli.md and the man page docs/credrotator.1 from the commands themselves; with --check, compare them.

What commands have in common stands once. The text around the commands is here, all else is what ``--help`` says.
Source: man-pages(7), groff_man(7).
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from credrotator.cli.main import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).resolve().parents[1] / "docs"
SHARED_BY = 3
"""An option of so many commands stands once, under what they have in common."""
_RANGE = re.compile(r"^(\d+)<=x<=(\d+)$")
HEAD = """\
# Command line

What follows is what `--help` says, of each command; `man credrotator` has it too, once the package is installed where
man looks (`share/man` beside its `bin`).

## What all commands share

Options may stand before or after names. An option can be given as a variable or in a config file too, see
[Configuration](configuration.md). Names choose policies: `namespace/name`, or `name` in the namespace of `-n` or of the
context; without names, all are meant.

| exit code | meaning |
|---|---|
| 0 | all well |
| 1 | some policies failed, or something could not be read |
| 2 | wrong use: the command line or its files cannot be used as given |
| 130, 143 | ended by Ctrl-C or SIGTERM; what was published stays |
| 141 | nobody reads the output any more |

Tables have colours on a terminal. `NO_COLOR` turns them off, `FORCE_COLOR` on.
"""
COMPLETION = """\
## Shell completion

`credrotator completion SHELL` prints what makes bash (4.4 or newer), zsh or fish complete commands, options, formats,
files, and the policies and namespaces of the manifests that `-f` names:

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
all well
.TP
1
some policies failed, or something could not be read
.TP
2
wrong use
.TP
130, 143
ended by Ctrl\\-C or SIGTERM; what was published stays
.TP
141
nobody reads the output any more
.SH ENVIRONMENT
Every option that names a variable above; flags win over variables, which win over the file of \\-\\-config.
Further KUBECONFIG, HTTPS_PROXY, HTTP_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, AWS_CA_BUNDLE, AWS_ENDPOINT_URL_STS,
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
    """Return the options that several commands have, by what ``--help`` shows of them."""
    counts = Counter(described(option) for _, command, _ in commands() for option in options(command))
    found = {described(option): option for _, command, _ in commands() for option in options(command)}
    return {" ".join(key): option for key, option in found.items() if counts[key] >= SHARED_BY}


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
    parts = [HEAD, "## Common options\n\n" + _rows([*common.values()])]
    parts += [f"## credrotator\n\n{_prose(cli)}\n{_rows(options(cli))}"]
    for name, command, context in commands():
        own = [option for option in options(command) if " ".join(described(option)) not in common]
        usage = f"```text\ncredrotator {name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
        also = "The common options, and:\n\n" if len(own) < len(options(command)) and own else ""
        only = "The common options.\n" if len(own) < len(options(command)) and not own else ""
        parts.append(f"## credrotator {name}\n\n{usage}\n{_prose(command)}\n{also}{only}{_rows(own)}".rstrip() + "\n")
    return "\n".join([*parts, COMPLETION])


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
        rows.append(f"| {typed} | {_code(text)} | {f'`{variable(option)}`' if variable(option) else ''} |\n")
    return "| option | meaning | variable |\n|---|---|---|\n" + "".join(rows)


def man() -> str:
    """Return the man page; without a date, so that it changes with the commands only."""
    common = shared()
    page = ['.TH CREDROTATOR 1 "" credrotator "User Commands"\n', ".SH NAME\n", "credrotator \\- "]
    page += ["keep the cloud credentials of an Envoy AI Gateway fresh\n", ".SH SYNOPSIS\n"]
    for name, command, context in commands():
        page.append(f".B credrotator {name}\n{_roff(' '.join(command.collect_usage_pieces(context)))}\n.br\n")
    page += [".SH DESCRIPTION\n", _man_prose(cli), ".SH COMMON OPTIONS\n", *map(_man_option, common.values())]
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


PAGES = {"cli.md": markdown, "credrotator.1": man}


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
