"""One package per provider: what it is by itself (pure), and its exchange (the SDK's adapter).

``source`` has the facts, ``policy`` reads the gateway's block, ``advice`` says what has to stand at the vendor, and the
module named after the vendor's service makes exchanges, imported when a policy first needs it. A new provider is one
more package, and a line in :data:`PROVIDERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.policies.managed import FormReader
from credrotator.policies.reader import Defaults, PolicyReader
from credrotator.providers.anthropic import Anthropic
from credrotator.providers.aws import Aws
from credrotator.providers.azure import Azure
from credrotator.providers.bedrock import Bedrock
from credrotator.providers.client_credentials import PlainClientCredentials
from credrotator.providers.gcp import Gcp
from credrotator.providers.openai import OpenAi
from credrotator.providers.token_exchange import AnyTokenExchange

if TYPE_CHECKING:
    from credrotator.core.model import Rotatable
    from credrotator.policies.served import ServedSchema
    from credrotator.providers.provider import OperatorOption, Provider

PROVIDERS: tuple[Provider, ...] = (
    *(Aws(), Azure(), Gcp()),
    *(Anthropic(), OpenAi(), Bedrock()),
    *(AnyTokenExchange(), PlainClientCredentials()),
)


def provider_of(source: Rotatable) -> Provider:
    """Return whose a source is."""
    return next(provider for provider in PROVIDERS if isinstance(source, provider.sources))


def operator_options() -> tuple[OperatorOption, ...]:
    """List what the operator may set for one provider or another."""
    return tuple(option for provider in PROVIDERS for option in provider.options)


def policy_reader(defaults: Defaults, served: ServedSchema | None = None) -> FormReader:
    """Return what reads the policies of all providers, in either form.

    Args:
        defaults: The operator's settings.
        served: What the cluster of the policies serves as ``v1alpha1``, where that is known.
    """
    return FormReader(PolicyReader(PROVIDERS, defaults, served), [provider.managed for provider in PROVIDERS])
