"""Which policies a command is about."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from credrotator.core.errors import UsageError, printable
from credrotator.core.model import ObjectKey
from credrotator.policies.asking import asking_key

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from credrotator.app.backend import Snapshot
    from credrotator.app.settings import Settings


def choose(snapshot: Snapshot, names: Sequence[str], settings: Settings) -> list[ObjectKey]:
    """Return the policies that names (``[NAMESPACE/]NAME``) and ``-n`` choose, in order.

    A cluster without any is no mistake: a job may be there before the first policy. Manifests without any are.

    Raises:
        UsageError: A name is not there, or nothing is left where something has to be.
    """
    # Invalid ones too: who names a policy that cannot work wants to be told why, not that there is none.
    known = sorted({*snapshot.inventory.policies, *snapshot.inventory.invalid})
    if settings.namespaces and not settings.all_namespaces:
        known = [key for key in known if key.namespace in settings.namespaces]
    if not known:
        # See the docstring: a CronJob that runs before the first policy is applied must not fail.
        if snapshot.may_be_empty and not names:
            return []
        raise UsageError(none_there(snapshot, settings))
    named = [policy_of(ObjectKey.parse(name, snapshot.namespace), known) for name in names]
    for key in named:
        if key not in known:
            close = difflib.get_close_matches(str(key), map(str, known), 1)
            raise UsageError(f"there is no policy {key}" + (f"; did you mean {close[0]}?" if close else ""))
    return [key for key in known if not named or key in named]


def policy_of(key: ObjectKey, known: Collection[ObjectKey]) -> ObjectKey:
    """Return the policy of a name, else the Secret of that name which asks for itself."""
    return key if key in known or asking_key(key) not in known else asking_key(key)


def none_there(snapshot: Snapshot, settings: Settings) -> str:
    """Say that there are no policies, and where."""
    within = settings.namespaces and not settings.all_namespaces
    where = f" in namespace {' or '.join(settings.namespaces)}" if within else ""
    where = f" with labels {printable(settings.selector, 80)}{where}" if settings.selector else where
    return f"there is no BackendSecurityPolicy{where} in {snapshot.origin}"
