"""``credrotator credential-process``: one credential as the document that another program asks for.

Standard output carries the document and nothing else; all that is to be said goes to standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credrotator.app.choosing import choose
from credrotator.app.exchanging import make_exchanger, make_rotation
from credrotator.app.one_credential import NoCredential, obtain, rotatable
from credrotator.app.opening import open_backend
from credrotator.app.tracing import traces
from credrotator.cli import completions as completing
from credrotator.cli.options import PolicyCommand, read_settings, reading_options, within_namespaces
from credrotator.cli.selection import read
from credrotator.core.clock import system_clock
from credrotator.core.errors import PolicyError, RotationError
from credrotator.core.outcome import Failure
from credrotator.core.secretdata import show_time
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.observability.audit import Audit
from credrotator.providers.formats import DEFAULT_FORMAT, FORMATS, TOKEN_FORMATS

if TYPE_CHECKING:
    from credrotator.app.backend import Backend, Snapshot
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import RotatablePolicy
    from credrotator.exchange.exchanger import Exchanger


@click.command("credential-process", cls=PolicyCommand)
@click.argument("name", metavar="NAMESPACE/NAME", shell_complete=completing.policies)
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, *TOKEN_FORMATS]),
    default=DEFAULT_FORMAT,
    show_default=True,
    help="Format of the document.",
)
@reading_options
def command(name: str, *, form: str, **common: Any) -> int:
    """Print a policy's credential for a program that asks for it, such as an SDK with credential_process.

    The credential comes from the directory of --out, or from the cluster. It is renewed first if it is due and nobody
    else has renewed it; a daemon beside it is no problem. If it cannot be renewed, but is still valid, it is printed,
    with a warning on standard error.

    The formats: aws is the document of credential_process. azure is what "az account get-access-token" prints.
    gcp-executable is the issuer's token, for Google's executable-sourced credentials, which exchange it themselves.
    bearer is the token alone. env is lines for eval.

    \b
    Examples:
      # in ~/.aws/config
      credential_process = credrotator credential-process -f /etc/policies --out /var/lib/credrotator prod/aws-bedrock
      # in a shell
      eval "$(credrotator credential-process -f policies/ --out out/ prod/aws-bedrock --format env)"
      # a token for curl, from a cluster
      curl -H "Authorization: Bearer $(credrotator credential-process prod/azure --format bearer)" https://api.example.com/

    Exit codes: 0 the credential was printed, 1 there is none, 2 usage error.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings, clock = within_namespaces(read_settings(common), [name]), SkewedClock(system_clock)
    with traces() as instrumentation, open_backend(settings, clock) as backend:
        # NOTE: google-auth reads both streams as one document: a note about some other manifest would spoil it.
        snapshot = backend.read() if form in TOKEN_FORMATS else read(backend)
        # Exactly one name goes in, so one key comes out, or an error.
        (key,) = choose(snapshot, [name], settings)
        try:
            policy = rotatable(snapshot, key)
            if form in TOKEN_FORMATS:
                exchange = make_exchanger(settings, clock, account_tokens=backend.account_tokens)
                document = _token(exchange, snapshot, policy, form)
            else:
                document = _credential(
                    settings, backend, snapshot, policy, clock=clock, form=form, instrumentation=instrumentation
                )
        except RotationError as error:
            return _failed(str(key), Failure.of(error))
        except NoCredential as error:
            return _failed(str(key), error.failure)
    click.echo(document, nl=False)
    return 0


def _credential(
    settings: Settings,
    backend: Backend,
    snapshot: Snapshot,
    policy: RotatablePolicy,
    *,
    clock: SkewedClock,
    form: str,
    instrumentation: Instrumentation,
) -> str:
    audit = Audit()
    rotation = make_rotation(settings, backend, clock, instrumentation=instrumentation, audit=audit)
    obtained = obtain(snapshot, policy, rotation, renewing=backend.renewing, clock=clock, audit=audit)
    try:
        document = FORMATS[form](obtained.credential)
    # From the format itself: a credential of Azure has no access key, for one.
    except KeyError as error:
        there = ", ".join(sorted(obtained.credential.fields))
        message = f"the credential has no {error.args[0]}, which the format {form} needs; it has {there}"
        raise PolicyError("WrongFormat", message, hint="name another --format") from error
    if failure := obtained.failure:
        until = show_time(obtained.credential.expires_at)
        # On standard error and with exit code 0: the program has a credential that works, and an error would stop it
        # for nothing.
        click.echo(f"warning: {policy.key} could not be renewed, and is valid until {until}", err=True)
        _tell(str(policy.key), failure)
    return document


def _token(exchange: Exchanger, snapshot: Snapshot, policy: RotatablePolicy, form: str) -> str:
    source = policy.source.token_source
    if source is None:
        message = f"the policy needs no issuer's token, which the format {form} is for"
        raise PolicyError("WrongFormat", message, hint="name another --format")
    return TOKEN_FORMATS[form](exchange.subject_token(policy.key, source, snapshot.inventory.reader(policy.key)))


def _failed(key: str, failure: Failure) -> int:
    _tell(key, failure)
    return 1


def _tell(key: str, failure: Failure) -> None:
    click.echo(f"{key}: {failure.reason}: {failure.message}\n  what to do: {failure.hint}", err=True)
