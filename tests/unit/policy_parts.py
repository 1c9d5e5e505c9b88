"""Paths and blocks that the tests of reading policies share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.builders import V1ALPHA1, V1BETA1

if TYPE_CHECKING:
    from tests.support.builders import Manifest

EXCHANGE = "spec.awsCredentials.oidcExchangeToken"
OIDC = f"{EXCHANGE}.oidc"
ISSUER = f"{OIDC}.provider.issuer"
FEDERATION = "spec.gcpCredentials.workloadIdentityFederationConfig"
REF: Manifest = {"secretRef": {"name": "key"}}
GCP = {"projectName": "p", "region": "europe-west1"}
both_versions = pytest.mark.parametrize("version", [V1ALPHA1, V1BETA1])
