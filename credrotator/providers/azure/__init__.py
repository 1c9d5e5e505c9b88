"""Microsoft Entra: a federated assertion, or a client secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.policies.annotations import PREFIX
from credrotator.policies.managed import ManagedForm
from credrotator.policies.reader import AnnotationUse
from credrotator.providers.azure import advice as trust
from credrotator.providers.azure.policy import (
    AUTHORITY,
    AUTHORITY_OPTION,
    SCOPE,
    SCOPE_OPTION,
    operators_authority,
    read_block,
)
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc
from credrotator.providers.provider import Advice, OperatorOption, Provider, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.core.model import ObjectKey, Rotatable, Source
    from credrotator.exchange.vendors import Vendor, VendorContext
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading


def _carry(_content: Mapping[str, Any], secret: Mapping[str, Any]) -> Mapping[str, Any]:
    # The gateway's AzureCredentials always rotates by itself; a token in an APIKey reaches Azure OpenAI as the same
    # Authorization header.
    return {"type": "APIKey", "apiKey": secret}


class Azure(Provider):
    """See ``Provider``."""

    name = "azure"
    policy_type = "AzureCredentials"
    sources = (AzureOidc, AzureClientSecret)
    annotations = (
        AnnotationUse(AUTHORITY, (AzureOidc, AzureClientSecret), "azureCredentials"),
        AnnotationUse(SCOPE, (AzureOidc, AzureClientSecret), "azureCredentials"),
    )
    options = (
        # By a variable only, which is that of azure-identity: who runs in a national cloud has it in all pods.
        OperatorOption(AUTHORITY_OPTION, variable="AZURE_AUTHORITY_HOST", parse=operators_authority),
        OperatorOption(SCOPE_OPTION, "Scope of Entra tokens [default: Azure OpenAI's in the authority's cloud]."),
    )
    managed = ManagedForm(
        annotation=PREFIX + "azure-credentials",
        policy_type=policy_type,
        block="azureCredentials",
        carrier="api-key",
        expected="type APIKey with apiKey.secretRef",
        rotatable="oidcExchangeToken or clientSecretRef",
        carry=_carry,
    )
    sandbox = SandboxServer("entra", "Entra", 9445)
    advice_member = "entraFederatedCredential"
    advice_title = "the application's federated credential that fits this token"
    terraform_requirement = ("azuread", trust.REQUIREMENT)

    def read(self, reading: Reading, spec: schema.Spec) -> Source | None:
        """See ``Provider``."""
        return read_block(reading, spec.azure_credentials)

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.azure.entra import Entra  # noqa: PLC0415 - the SDK, where a policy needs it

        return Entra(context)

    def advise(self, policy: ObjectKey, source: Rotatable, claims: Mapping[str, object]) -> Mapping[str, object] | None:
        """See ``Provider``."""
        return trust.federated_credential(policy, claims) if isinstance(source, AzureOidc) else None

    def terraform(self, advice: Iterable[Advice]) -> str:
        """See ``Provider``."""
        return trust.terraform(advice)
