"""What the gateway's ``gcpCredentials`` may say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import Static
from credrotator.policies.annotations import DURATION, annotation_path
from credrotator.policies.gateway_truth import falls_back
from credrotator.providers.gcp.source import GcpPool, GcpServiceAccount, GcpWorkloadIdentity

if TYPE_CHECKING:
    from credrotator.core.model import Source
    from credrotator.policies import schema
    from credrotator.policies.reader import Reading

PATH = "spec.gcpCredentials"


def read_block(reading: Reading, block: schema.GcpCredentials | None) -> Source | None:
    """Check what the block's fields mean together; None where it is not there."""
    if block is None:
        return None
    if federation := block.workload_identity:
        return _federated(reading, block, federation, f"{PATH}.workloadIdentityFederationConfig")
    if file := block.credentials_file:
        ref = reading.secret_key(file.secret_ref, "service_account.json", f"{PATH}.credentialsFile.secretRef")
        return GcpServiceAccount(ref)
    # Seen in the gateway's ``gateway.go`` (v1.1.0): the combination makes an empty credential, and the backend is left
    # out without a word.
    if falls_back(reading.shape.spec.credential_override):
        why = "with the default chain there is nothing to fall back to, and the gateway drops the backend"
        reading.warnings.append(f"spec.credentialOverride: {why}; set fallbackToConfigured to false")
    return Static("gcp-default-chain")


def _federated(reading: Reading, block: schema.GcpCredentials, federation: schema.GcpFederation, path: str) -> Source:
    duration, email = reading.duration(), None
    if federation.impersonation:
        # "example.com:project" is "project.example.com" in addresses, as Google has it for such projects.
        domain, _, project = block.project_name.rpartition(":")
        host = f"{project}.{domain}" if domain else project
        email = f"{federation.impersonation.service_account_name}@{host}.iam.gserviceaccount.com"
    elif duration:
        where = "Google lets the life of a service account's token be chosen, and only that"
        reading.wrong(annotation_path(DURATION), f"{where}; remove it, or set {path}.serviceAccountImpersonation")
    pool = GcpPool(federation.project_id, federation.pool_name, federation.provider_name)
    return GcpWorkloadIdentity(
        reading.token_source(
            federation.oidc_exchange_token, f"{path}.oidcExchangeToken", default_audience=pool.audience
        ),
        pool,
        block.project_name,
        block.region,
        email,
        duration,
    )
