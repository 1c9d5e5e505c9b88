"""The file of ``--config``: it wins over defaults, ``CREDROTATOR_*`` variables and flags win over it."""

from __future__ import annotations

from pathlib import Path

import click

from credrotator.cli.setting_option import CONFIG_FILE
from credrotator.core.errors import UsageError, printable
from credrotator.files.bounded import MIB, read_bytes
from credrotator.policies.documents import read_document

LIMIT_BYTES = MIB


def load_config(context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Make a config file's entries the defaults of the command's options (callback of ``--config``)."""
    if name is None:
        return None
    try:
        # utf-8-sig: editors of Windows begin a file with a byte order mark.
        settings = read_document(read_bytes(Path(name), LIMIT_BYTES).decode("utf-8-sig")) or {}
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(f"{name} is not YAML: {printable(error)}") from error
    if not isinstance(settings, dict):
        raise click.BadParameter(f"{name}: expected settings, one per line, such as out: /var/lib/credrotator")
    options = _options(context.command)
    # Their options are known only when all their modules are imported, so only if there is something to explain.
    others: set[str] = set()
    if set(settings) - options.keys():
        others = _options_of_other_commands(context)
    if unknown := set(settings) - options.keys() - others:
        listed = ", ".join(sorted(printable(key) for key in unknown))
        known = ", ".join(sorted({*options, *others}))
        raise click.BadParameter(f"{name}: unknown settings: {listed}; known are {known}")
    for key, value in settings.items():
        if key in options and (why := _unfit(options[key], value)):
            raise click.BadParameter(f"{name}: {key}: {why}")
    entries = {
        str(options[key].name): [value] if options[key].multiple and not isinstance(value, list) else value
        for key, value in settings.items()
        if key in options and value is not None
    }
    context.meta[CONFIG_FILE] = name
    # Click's own way: below flags and variables, above the defaults that are declared.
    context.default_map = {**(context.default_map or {}), **entries}
    return name


def _unfit(option: click.Option, value: object) -> str | None:
    """Say why a setting cannot have a value, as far as click would not; None if it can."""
    values = value if isinstance(value, list) and option.multiple else [value]
    if any(isinstance(each, list | dict) for each in values):
        return f"expected {'values, one per line after a -' if option.multiple else 'one value'}"
    # YAML 1.1 reads no, on and yes as booleans: ``out: no`` would make a directory called False.
    if not option.is_flag and any(isinstance(each, bool) for each in values):
        return "expected a text; quote the value"
    return None


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return what a config file can set for a command: what a ``CREDROTATOR_…`` variable can, but the file itself."""
    options = [option for option in command.params if isinstance(option, click.Option) and option.envvar]
    return {str(option.name).replace("_", "-"): option for option in options if option.name != "config"}


def _options_of_other_commands(context: click.Context) -> set[str]:
    """One file serves all commands, so what only another one knows is no mistake."""
    root = context.find_root().command
    if not isinstance(root, click.Group):
        return set()
    commands = (root.get_command(context, command) for command in root.list_commands(context))
    return {name for command in commands if command for name in _options(command)}
