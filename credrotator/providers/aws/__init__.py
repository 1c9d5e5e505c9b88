"""Amazon Web Services: STS by web identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.policies.annotations import DURATION, PREFIX
from credrotator.policies.managed import ManagedForm
from credrotator.policies.reader import AnnotationUse
from credrotator.providers.aws import advice as trust
from credrotator.providers.aws.policy import CREDENTIALS_FILE, ROLE_CHAIN, read_block
from credrotator.providers.aws.source import SHAPES, AwsOidc
from credrotator.providers.provider import Advice, OperatorOption, Provider, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credrotator.core.model import ObjectKey, Rotatable, Source
    from credrotator.exchange.vendors import Vendor, VendorContext
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading


def _carry(content: Mapping[str, Any], secret: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"awsCredentials": {"region": content["region"], "credentialsFile": secret}}


class Aws(Provider):
    """See ``Provider``."""

    name = "aws"
    policy_type = "AWSCredentials"
    sources = (AwsOidc,)
    annotations = tuple(
        AnnotationUse(name, (AwsOidc,), "awsCredentials.oidcExchangeToken") for name in (DURATION, ROLE_CHAIN)
    )
    options: tuple[OperatorOption, ...] = ()
    managed = ManagedForm(
        annotation=PREFIX + "aws-credentials",
        policy_type=policy_type,
        block="awsCredentials",
        carrier=CREDENTIALS_FILE,
        expected="awsCredentials.credentialsFile.secretRef",
        rotatable="oidcExchangeToken",
        # The gateway reads the same file, by the same SDK, from a Secret that a person names: only who rotates it
        # differs.
        carry=_carry,
        shapes=SHAPES,
    )
    sandbox = SandboxServer("sts", "STS", 9444)
    advice_member = "awsTrustPolicy"
    advice_title = "the role's trust policy that fits this token"
    further_advice: Mapping[str, str] = {"awsRoleChain": "each further role's trust policy, and what its caller needs"}
    terraform_requirement = ("aws", trust.REQUIREMENT)

    def read(self, reading: Reading, spec: schema.Spec) -> Source | None:
        """See ``Provider``."""
        return read_block(reading, spec.aws_credentials)

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.aws.sts import Sts  # noqa: PLC0415 - the SDK, where a policy needs it

        return Sts(context)

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - nothing there is named after it
        source: Rotatable,
        claims: Mapping[str, object],
    ) -> Mapping[str, object] | None:
        """See ``Provider``."""
        return trust.trust_policy(source, claims) if isinstance(source, AwsOidc) else None

    def advise_further(self, source: Rotatable) -> Mapping[str, object]:
        """See ``Provider``."""
        chain = trust.role_chain(source) if isinstance(source, AwsOidc) else []
        return {"awsRoleChain": chain} if chain else {}

    def terraform(self, advice: Iterable[Advice]) -> str:
        """See ``Provider``."""
        return trust.terraform(advice)
