"""``credrotator convert``: the managed form of OIDC policies, as manifests on standard output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import yaml

from credrotator.app.opening import open_backend
from credrotator.cli.options import PolicyCommand, names_policies, read_settings, reading_options
from credrotator.cli.selection import chosen, read
from credrotator.core.clock import system_clock
from credrotator.core.model import SECRET_KIND, RotatablePolicy
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.policies.managed import header_mutation
from credrotator.providers import policy_reader, provider_of

if TYPE_CHECKING:
    from credrotator.policies.inventory import Inventory


def _note_headers(policy: RotatablePolicy, inventory: Inventory) -> None:
    """Say how the policy's backends are made to add what requests with the credential need beside it."""
    mutation = header_mutation(provider_of(policy.source).managed)
    if not mutation:
        return
    patch = json.dumps({"spec": mutation}, separators=(",", ":"))
    # NAME is for the reader to fill in: the backends may be in other files than the policies.
    backends = inventory.dependants(policy).backends or (policy.key._replace(name="NAME"),)
    click.echo(f"note: requests with the credential of {policy.key} need a header that its backend adds:", err=True)
    for backend in backends:
        where = f"{backend.name} -n {backend.namespace}"
        click.echo(f"  kubectl patch aiservicebackend {where} --type merge -p '{patch}'", err=True)


class _Dumper(yaml.SafeDumper):
    """YAML for people: a text of several lines stands as a block."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # The annotation holds YAML in YAML; quoted, with \n in it, nobody could read it or edit it.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


@click.command("convert", cls=PolicyCommand)
@names_policies
@reading_options
def command(names: tuple[str, ...], **common: Any) -> int:
    """Print OIDC policies in the managed form, in which the gateway's own rotator takes no part.

    Policies that need no rotation or already have this form are left out, and so are those of Google Cloud, which work
    in the gateway's own form only. Where requests need a header beside the credential, a note shows how the backend is
    made to add it. Nothing is changed anywhere. Use kubectl replace on the result: apply would merge the two forms.

    \b
    Examples:
      credrotator convert -f policies/ > managed.yaml
      # test the result on the API server, without changing anything
      credrotator convert -A | kubectl replace --dry-run=server -f -
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings = read_settings(common)
    reader = policy_reader(settings.defaults)
    with open_backend(settings, SkewedClock(system_clock)) as backend:
        snapshot = read(backend)
        inventory, keys = snapshot.inventory, chosen(snapshot, names, settings)
        for key in keys:
            policy = inventory.policies.get(key)
            if not isinstance(policy, RotatablePolicy) or policy.kind == SECRET_KIND:
                continue
            # For policies that are managed already, too: who runs convert again wants to know what is still to do.
            _note_headers(policy, inventory)
            if policy.managed:
                continue
            if not reader.is_convertible(policy):
                click.echo(
                    f"note: {key} is left out: {policy.provider} has no managed form that does the same", err=True
                )
            else:
                manifest = reader.convert(inventory.manifests[key], policy)
                click.echo("---\n" + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=120), nl=False)
        invalid = [inventory.invalid[key] for key in keys if key in inventory.invalid]
    for wrong in invalid:
        click.echo(f"warning: {wrong.key} is left out: {'; '.join(map(str, wrong.problems))}", err=True)
    return int(bool(invalid or snapshot.problems))
