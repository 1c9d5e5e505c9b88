"""The API that the gateway's controller speaks: CRDs out of the Go modules that it is built from."""

import shutil
from pathlib import Path

import yaml

from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import module_directory

_VERSION = "1.0.0"
_CONFIG = Path(__file__).parent / "config"

# Envoy Gateway's are Helm templates of which only the first and the last line belong to Helm.
_SOURCES = {
    "sigs.k8s.io/gateway-api": ("config/crd/standard", "*.yaml"),
    "github.com/envoyproxy/gateway": ("charts/gateway-crds-helm/templates/generated", "*.yaml"),
    "github.com/envoyproxy/ai-gateway": ("manifests/charts/ai-gateway-crds-helm/templates", "*.yaml"),
}
# What no part of the suite looks at, and what would cost a second each.
_UNUSED = ("envoypatchpolicies", "envoyproxies", "clienttrafficpolicies", "vap_safeupgrades", "tlsroutes")

# The API of v0.2, as far as the contract tells: one version, and next to no validation.
V02 = _CONFIG / "backendsecuritypolicy-v0.2.yaml"
# The first one whose policies point to backends and may have no mechanism but their type's.
V03 = _CONFIG / "backendsecuritypolicy-v0.3.yaml"


def v05(cache: Cache, directory: Path) -> Path:
    """Return a file with the policies of v0.5, the last that served v1alpha1 alone: v1 serves the same still."""
    (found,) = current(cache).glob("*backendsecuritypolicies*")
    definition = yaml.safe_load(found.read_text())
    (alpha,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1alpha1"]
    del alpha["deprecated"], alpha["deprecationWarning"]
    definition["spec"]["versions"] = [alpha | {"storage": True}]
    file = directory / "backendsecuritypolicy-v0.5.yaml"
    file.write_text(yaml.safe_dump(definition))
    return file


def current(cache: Cache) -> Path:
    """Return a directory with the CRDs of the gateway v1, of Envoy Gateway and of the Gateway API."""

    def make(directory: Path) -> None:
        for module, (folder, pattern) in _SOURCES.items():
            source = module_directory("ext_proc", module, scratch=directory)
            for file in sorted((source / folder).glob(pattern)):
                if not any(name in file.name for name in _UNUSED):
                    lines = file.read_text().splitlines(keepends=True)
                    (directory / file.name).write_text("".join(line for line in lines if not line.startswith("{{")))
        shutil.rmtree(directory / "ext_proc")

    return cache.entry(f"gateway-crds-{_VERSION}", make)
