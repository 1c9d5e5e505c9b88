"""Kubernetes, etcd and Helm as programs, built from one go.mod so that what they share is compiled once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import build

_KUBERNETES = "1.37.2"
_ETCD = "3.7.0"
_HELM = "3.22.0"

_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = _KUBERNETES.split(".")
# Without these a server calls itself v0.0.0 and Helm refuses charts that name the versions they support.
_STAMP = {
    f"{_VERSION}.gitVersion": f"v{_KUBERNETES}",
    f"{_VERSION}.gitMajor": _MAJOR,
    f"{_VERSION}.gitMinor": _MINOR,
    f"{_VERSION}.gitTreeState": "clean",
}


@dataclass(frozen=True)
class Programs:
    """Each program, built when it is first asked for."""

    cache: Cache

    @cached_property
    def etcd(self) -> Path:
        return build(self.cache, "etcd", package="go.etcd.io/etcd/server/v3", version=_ETCD, module="kubernetes")

    @cached_property
    def helm(self) -> Path:
        return build(
            self.cache,
            "helm",
            package="helm.sh/helm/v3/cmd/helm",
            version=_HELM,
            module="kubernetes",
            stamp={"helm.sh/helm/v3/internal/version.version": f"v{_HELM}"},
        )

    @cached_property
    def api_server(self) -> Path:
        return self._kubernetes("kube-apiserver")

    @cached_property
    def controller_manager(self) -> Path:
        return self._kubernetes("kube-controller-manager")

    @cached_property
    def kubectl(self) -> Path:
        return self._kubernetes("kubectl")

    def _kubernetes(self, name: str) -> Path:
        package = f"k8s.io/kubernetes/cmd/{name}"
        return build(self.cache, name, package=package, version=_KUBERNETES, module="kubernetes", stamp=_STAMP)
