"""An option that can also be set by a variable and in the config file, and what it says of a value that it refuses.

Owns that a value is not empty, and that an error names where the value came from. Must not know what a value means.
"""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from credrotator.core.errors import printable

CONFIG_FILE = "credrotator.config"
"""Where a context keeps the name of the config file."""


class SettingOption(click.Option):
    """An option whose value must not be empty, unless that is its default."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """See click.Parameter."""
        # Kinds that refuse an empty text by themselves, such as durations, say what they expect.
        value = super().type_cast_value(ctx, value)
        values = value if isinstance(value, list | tuple) else [value]
        # NOTE: an empty path is the working directory, and an empty context the current one: with a shell's variable
        # that is not set, another directory or cluster would be taken than the one that is meant.
        if "" in values and self.default != "":
            why = "the value is empty; see whether a variable is not set, or leave the option out"
            raise click.BadParameter(why, ctx=ctx, param=self)
        return value

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """See click.Parameter; of variable and config file only the one that the value came from is named."""
        source = ctx.get_parameter_source(str(self.name)) if ctx else None
        if ctx and source is ParameterSource.DEFAULT_MAP and CONFIG_FILE in ctx.meta:
            return f"'--config': {printable(ctx.meta[CONFIG_FILE])}: {str(self.name).replace('_', '-')}"
        if source is ParameterSource.COMMANDLINE:
            return click.Parameter.get_error_hint(self, ctx)
        return super().get_error_hint(ctx)
