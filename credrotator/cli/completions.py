"""What a shell may put in the place of a word: directories, manifests' policies and namespaces, and contexts.

Reads files only: a shell that waits for a cluster at each key is no help. What cannot be read completes to nothing.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click
    from click.shell_completion import CompletionItem

    from credrotator.core.model import ObjectKey


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell, which knows the directories."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - at a key of the shell only

    return [CompletionItem(incomplete, type="dir")]


def policies(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the policies of the manifests that -f names so far, and are not on the line yet."""
    taken = set(context.params.get("names") or ())
    return _matching((str(key) for key in _keys(context)), incomplete, taken)


def namespaces(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the namespaces in which these manifests have policies."""
    return _matching((key.namespace for key in _keys(context)), incomplete, set())


def contexts(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the contexts of the kubeconfig."""
    return _matching(_contexts(context), incomplete, set())


def context_lists(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the contexts that may come next in a list with commas."""
    before, comma, last = incomplete.rpartition(",")
    offered = _matching(_contexts(context), last, set(before.split(",")))
    for item in offered:
        # The shell replaces the whole word, with what stands before the last comma in it.
        item.value = f"{before}{comma}{item.value}"
    return offered


def _contexts(context: click.Context) -> list[str]:
    from credrotator.kube.client.api_errors import ConfigurationError  # noqa: PLC0415 - at a key of the shell only
    from credrotator.kube.client.contexts import context_names  # noqa: PLC0415 - at a key of the shell only

    try:
        return context_names(context.params.get("kubeconfig"))
    except ConfigurationError:
        return []


def _matching(words: Iterable[str], incomplete: str, taken: set[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - at a key of the shell only

    return [CompletionItem(word) for word in sorted(set(words) - taken) if word.startswith(incomplete)]


def _keys(context: click.Context) -> list[ObjectKey]:
    from credrotator.files.manifests import ManifestOptions, read_manifests  # noqa: PLC0415 - at a key of the shell only
    from credrotator.policies.reader import Defaults  # noqa: PLC0415 - at a key of the shell only
    from credrotator.providers import policy_reader  # noqa: PLC0415 - at a key of the shell only

    # Standard input is the shell's own here; reading it would swallow what is typed next.
    names = [name for name in context.params.get("filename") or () if name != "-"]
    options = ManifestOptions(recursive=bool(context.params.get("recursive")))
    # Without the operator's settings: names do not depend on them, and a wrong setting must not break completion.
    reader = policy_reader(Defaults())
    try:
        inventory = read_manifests(names, io.StringIO(), reader, options).inventory if names else None
    except UsageError:
        return []
    return [*inventory.policies, *inventory.invalid] if inventory else []
