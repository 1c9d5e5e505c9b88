"""Amazon Bedrock by a short-term API key, which is a bearer token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.policies.reader import AnnotationUse
from credrotator.providers.aws.policy import ROLE_CHAIN
from credrotator.providers.bearer import BearerProvider, bearer_form
from credrotator.providers.bedrock.policy import BedrockApiKeyBlock, read_block
from credrotator.providers.bedrock.source import BedrockApiKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey, Rotatable
    from credrotator.exchange.vendors import Vendor, VendorContext


class Bedrock(BearerProvider):
    """See ``Provider``."""

    name = "bedrock"
    sources = (BedrockApiKey,)
    # Without ``credrotator.io/duration``: here the block has a field of its own, since the life is the key's and not
    # the role session's.
    annotations = (AnnotationUse(ROLE_CHAIN, (BedrockApiKey,), "credrotator.io/bedrock-api-key"),)
    managed = bearer_form("bedrock-api-key", BedrockApiKeyBlock, read_block)
    # The vendor has nothing to set up beyond the role, whose advice is AWS's; see ``advised``.
    advice_member = ""
    advice_title = ""

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.bedrock.presigned import BedrockKeys  # noqa: PLC0415 - the SDK, when needed

        return BedrockKeys(context)

    def advised(self, source: Rotatable) -> Rotatable:
        """See ``Provider``: the role, as for other policies of AWS."""
        # The same trust policy lets the key in: it has no rights of its own, only those of the role that signed it.
        return source.role if isinstance(source, BedrockApiKey) else source

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - nothing besides the role
        source: Rotatable,  # noqa: ARG002
        claims: Mapping[str, object],  # noqa: ARG002
    ) -> Mapping[str, object] | None:
        """See ``Provider``."""
        return None
