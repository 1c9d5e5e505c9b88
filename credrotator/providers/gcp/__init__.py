"""Google Cloud: workload identity federation, or a service account's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.policies.annotations import DURATION, PREFIX
from credrotator.policies.managed import ManagedForm
from credrotator.policies.reader import AnnotationUse
from credrotator.providers.gcp import advice as trust
from credrotator.providers.gcp.policy import read_block
from credrotator.providers.gcp.source import GcpServiceAccount, GcpWorkloadIdentity
from credrotator.providers.provider import Advice, OperatorOption, Provider, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.core.model import ObjectKey, Rotatable, Source
    from credrotator.exchange.vendors import Vendor, VendorContext
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading


class Gcp(Provider):
    """See ``Provider``."""

    name = "gcp"
    policy_type = "GCPCredentials"
    sources = (GcpWorkloadIdentity, GcpServiceAccount)
    # Google lets only the life of an impersonated account's token be chosen; the STS decides that of a pool's token.
    annotations = (AnnotationUse(DURATION, (GcpWorkloadIdentity,), "GCP's serviceAccountImpersonation"),)
    options: tuple[OperatorOption, ...] = ()
    managed = ManagedForm(
        annotation=PREFIX + "gcp-credentials",
        policy_type=policy_type,
        block="gcpCredentials",
        carrier="api-key",
        expected="type APIKey with apiKey.secretRef",
        rotatable="workloadIdentityFederationConfig or credentialsFile",
        # The gateway adds project and region to the paths of requests for gcpCredentials alone.
        carry=None,
    )
    sandbox = SandboxServer("google", "Google Cloud", 9446)
    advice_member = "gcpWorkloadIdentity"
    advice_title = "the pool's provider, and the grant to its principal, that fit this token"
    terraform_requirement = ("google", trust.REQUIREMENT)

    def read(self, reading: Reading, spec: schema.Spec) -> Source | None:
        """See ``Provider``."""
        return read_block(reading, spec.gcp_credentials)

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.gcp.google import Google  # noqa: PLC0415 - the SDK, where a policy needs it

        return Google(context)

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - nothing there is named after it
        source: Rotatable,
        claims: Mapping[str, object],
    ) -> Mapping[str, object] | None:
        """See ``Provider``."""
        return trust.workload_identity(source, claims) if isinstance(source, GcpWorkloadIdentity) else None

    def terraform(self, advice: Iterable[Advice]) -> str:
        """See ``Provider``."""
        return trust.terraform(advice)
