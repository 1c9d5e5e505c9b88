"""What an account may do, asked before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import ObjectKey
from credrotator.kube.access import check_filter_rights
from credrotator.kube.filter_config import config_names
from credrotator.kube.filter_config_reader import FilterConfigs

if TYPE_CHECKING:
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

GATEWAY, SYSTEM = ObjectKey("prod", "envoy"), "envoy-gateway-system"


def test_the_filters_configuration_is_asked_for_by_name(server: ApiServer, api: KubeApi) -> None:
    """A role may be tied to the names, in one piece, as an index or in parts; what is missing concerns all policies."""
    names, which = config_names(GATEWAY), FilterConfigs((GATEWAY,), SYSTEM)
    every = (names.whole, names.index, *names.parts)
    (granted,) = check_filter_rights(api, which)
    server.forbid("get", "secrets", SYSTEM)
    (refused,) = check_filter_rights(api, which)
    assert (granted.missing, granted.lack) == ((), "")
    assert (refused.missing, refused.namespace) == (every, None)
    assert "prod/envoy" in refused.what
    asked = [request.body["spec"]["resourceAttributes"]["name"] for request in server.requests]
    assert asked == 2 * list(every)
