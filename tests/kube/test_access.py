"""What an account may do, asked before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import ObjectKey
from credrotator.kube.access import check_filter_rights
from credrotator.kube.filter_config import config_names

if TYPE_CHECKING:
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

GATEWAY, SYSTEM = ObjectKey("prod", "envoy"), "envoy-gateway-system"


def test_the_filters_configuration_is_asked_for_by_name(server: ApiServer, api: KubeApi) -> None:
    """A role may be tied to the names, in one piece and as an index; what is missing concerns all policies."""
    names = config_names(GATEWAY)
    granted = list(check_filter_rights(api, [GATEWAY], SYSTEM))
    server.forbid("get", "secrets", SYSTEM)
    refused = list(check_filter_rights(api, [GATEWAY], SYSTEM))
    assert [right.what for right in granted] == [
        f"get secrets {name} in {SYSTEM}" for name in (names.whole, names.index)
    ]
    assert [right.missing for right in (*granted, *refused)] == [(), (), ("get",), ("get",)]
    assert {right.namespace for right in refused} == {None}
    asked = [request.body["spec"]["resourceAttributes"]["name"] for request in server.requests]
    assert asked == 2 * [names.whole, names.index]
