"""What the API server tells of its ``v1alpha1``; row 32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from credrotator.kube import paths
from credrotator.kube.served_schema import read_schema
from tests.support.served_schemas import ALPHA_SCHEMAS, openapi

if TYPE_CHECKING:
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

ALPHA = f"{paths.GATEWAY_GROUP}/v1alpha1"


@pytest.mark.parametrize("release", ALPHA_SCHEMAS)
def test_fault_32_the_server_tells_which_v1alpha1_it_is(server: ApiServer, api: KubeApi, release: str) -> None:
    """By the types and by whether policies point to backends."""
    server.schemas[ALPHA] = openapi(ALPHA_SCHEMAS[release])
    assert read_schema(api, "v1alpha1") == ALPHA_SCHEMAS[release]


def test_fault_32_v1beta1_is_not_asked_for(server: ApiServer, api: KubeApi) -> None:
    """It is the same in all releases, and its document is large."""
    assert read_schema(api, "v1beta1") is None
    assert not server.requests


def test_fault_32_a_server_that_does_not_tell(server: ApiServer, api: KubeApi) -> None:
    """Not served, or not permitted: no failure, the policy itself tells as far as it can."""
    assert read_schema(api, "v1alpha1") is None
    server.fail(403, "Forbidden")
    assert read_schema(api, "v1alpha1") is None


@pytest.mark.parametrize(
    "document",
    [
        {"components": []},
        {"components": {"schemas": {"x.BackendSecurityPolicy": None}}},
        {"components": {"schemas": {"x.BackendSecurityPolicy": {"properties": {"spec": {"properties": []}}}}}},
        {
            "components": {
                "schemas": {
                    "x.BackendSecurityPolicy": {"properties": {"spec": {"properties": {"type": {"enum": [1]}}}}}
                }
            }
        },
    ],
)
def test_fault_32_an_answer_of_another_shape(server: ApiServer, api: KubeApi, document: dict[str, Any]) -> None:
    """Whatever it is, it is not taken for a schema."""
    server.schemas[ALPHA] = document
    assert read_schema(api, "v1alpha1") is None
