"""Verified delivery, put together where the operator asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import RotatablePolicy
from credrotator.kube.client.api_errors import ApiError
from credrotator.kube.events import EventRecorder
from credrotator.kube.filter_config import UnreadableConfigError
from credrotator.kube.filter_config_reader import FilterConfigReader, FilterConfigs
from credrotator.kube.in_use import Use, compare
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.verified_delivery import VerifiedDelivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from credrotator.app.cluster import Cluster
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import DeliveryInstrumentation
    from credrotator.core.model import InvalidPolicy, Policy
    from credrotator.kube.deferred import Defer
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.filter_config import FilterConfig
    from credrotator.kube.source import ClusterSource


def filter_configs(settings: Settings) -> FilterConfigs | None:
    """Return which configurations are to be read, None if none are."""
    return FilterConfigs.named(settings.verify_delivery, settings.filter_namespace)


def make_verification(
    settings: Settings,
    cluster: Cluster,
    source: ClusterSource,
    delivery: Delivery,
    *,
    instrumentation: DeliveryInstrumentation,
    leads: Callable[[], bool],
    defer: Defer,
) -> VerifiedDelivery | None:
    """Put it together; None where nobody asked for it."""
    which = filter_configs(settings)
    if which is None:
        return None
    return VerifiedDelivery(
        FilterConfigReader(cluster.api, which),
        source,
        delivery,
        events=PolicyEvents(EventRecorder(cluster.api, cluster.identity), source, defer),
        instrumentation=instrumentation,
        leads=leads,
        defer=defer,
    )


class InUse:
    """Tells, by one reading, whether filters are configured with what is published."""

    def __init__(self, configs: Sequence[FilterConfig] = ()) -> None:
        self._configs = configs

    def __call__(self, policy: RotatablePolicy, content: str) -> bool | None:
        """Tell it of a policy by the hash of what is published; None where it is not known, or no route leads there."""
        use = compare(self._configs, policy, content)
        return None if use is Use.ABSENT else use is Use.CURRENT


def read_in_use(settings: Settings, cluster: Cluster, policies: Iterable[Policy | InvalidPolicy]) -> tuple[InUse, str]:
    """Read what filters have, for a command that looks once; the text is what went wrong, empty if nothing did."""
    which = filter_configs(settings)
    if which is None:
        return InUse(), ""
    # Only these keys of the configurations are hashed: the rest of them is nobody's business here.
    keys = {
        policy.data_key or policy.source.kind.data_key for policy in policies if isinstance(policy, RotatablePolicy)
    }
    try:
        configs = FilterConfigReader(cluster.api, which).read(keys)
    except ApiError as error:
        return InUse(), f"filter configurations cannot be read ({error.reason}); what is in use is not shown"
    except UnreadableConfigError as error:
        return InUse(), f"filter configurations cannot be read: {error}; what is in use is not shown"
    return InUse(configs), ""
