"""``credrotator completion``: scripts that let a shell complete commands, options, files and policies."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from credrotator.cli.habits import HabitualCommand
from credrotator.core.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_CREDROTATOR_COMPLETE"
"""By which the script calls us back; click's own rule for the name of a program."""


@click.command("completion", cls=HabitualCommand)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> int:
    """Print a script that lets a shell complete commands, options, files and the manifests' policies.

    \b
    Examples:
      # load it into the current shell
      source <(credrotator completion bash)
      # install it
      credrotator completion bash > ~/.local/share/bash-completion/completions/credrotator
      credrotator completion zsh > "${fpath[1]}/_credrotator"
      credrotator completion fish > ~/.config/fish/completions/credrotator.fish
    """  # noqa: D301 - \b keeps click from filling the paragraph
    # None only where somebody has taken a shell out of click's own list.
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"there is no completion for {shell}; there is for {', '.join(SHELLS)}")
    click.echo(kind(context.find_root().command, {}, "credrotator", VARIABLE).source(), nl=False)
    return 0
