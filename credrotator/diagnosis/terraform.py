"""What has to stand at the vendors, as one Terraform file: the head, and each provider's own blocks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credrotator.providers.provider import Advice


def document(advice: Iterable[Advice]) -> str:
    """Return a whole file for some policies; empty where they need nothing."""
    listed = list(advice)
    needed = [
        (provider, own)
        for provider in PROVIDERS
        # In the order of PROVIDERS, not of the policies, so that a second run gives the same file.
        if (own := [each for each in listed if isinstance(each.source, provider.sources)])
    ]
    if not needed:
        return ""
    blocks = [provider.terraform(own) for provider, own in needed]
    return "\n".join([*_head(provider.terraform_requirement for provider, _ in needed), *blocks])


def _head(requirements: Iterable[tuple[str, str] | None]) -> list[str]:
    """Return the block of the Terraform providers; none where none is needed."""
    named = dict(requirement for requirement in requirements if requirement)
    width = max(map(len, named), default=0)
    required = "".join(f"    {name:{width}} = {hcl}\n" for name, hcl in named.items())
    return [f"terraform {{\n  required_providers {{\n{required}  }}\n}}\n"] if named else []
