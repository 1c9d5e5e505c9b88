"""What a daemon says of what it serves, at its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.app.serving import listed, serving
from credrotator.app.settings import Settings
from credrotator.core.model import InvalidPolicy, ObjectKey, Problem
from tests.support.twins import aws_policy, no_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.core.model import Policy
    from credrotator.core.ports import SecretReader

WRONG = InvalidPolicy(ObjectKey("default", "wrong"), "a.yaml", (Problem("spec", "missing"),))


class Source:
    """A PolicySource that has been read."""

    def __init__(self, *policies: Policy | InvalidPolicy) -> None:
        self._policies = {policy.key: policy for policy in policies}

    def start(self, changed: Callable[[ObjectKey], None]) -> None:
        """Nothing ever changes."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        """See ``PolicySource``."""
        return self._policies.get(key)

    def policies(self) -> Iterable[ObjectKey]:
        """See ``PolicySource``."""
        return self._policies

    def reader(self, _key: ObjectKey) -> SecretReader:
        """See ``PolicySource``."""
        return no_secrets

    def trouble(self) -> str | None:
        """See ``PolicySource``."""
        return None


@pytest.mark.parametrize(
    ("policies", "count"),
    [
        ((), "0 policies "),
        ((aws_policy(),), "1 policy "),
        ((aws_policy(), WRONG), "2 policies (1 cannot work as written) "),
    ],
)
def test_how_many(policies: tuple[Policy | InvalidPolicy, ...], count: str) -> None:
    """None is said as well: it is what a mistyped selector looks like."""
    assert serving(Source(*policies), "from x", Settings(())).startswith(f"{count}from x; ")


def test_issuers() -> None:
    """Those that are allowed, or the rule that holds without any; never an endless list."""
    assert serving(Source(), "", Settings(())).endswith("allowed issuers: any by https that is not local")
    globs = tuple(f"https://idp-{number}.example/*" for number in range(7))
    assert serving(Source(), "", Settings((), allowed_issuers=globs)).endswith("idp-4.example/* and 2 more")
    assert listed(("a\n",)) == "a\\n"
