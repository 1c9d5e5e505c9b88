"""The chart's admission policy and ``check --offline`` say the same of the same policies."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from credrotator.cli.main import cli
from tests.chart.admission_cases import CASES, NAMESPACE, Case
from tests.support.parts import gateway_crds
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chart.rendering import Helm
    from tests.support.parts.cluster import Cluster

LISTS = list(dict.fromkeys(case.allowed_issuers for case in CASES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_offline(case: Case, tmp_path: Path) -> None:
    """``check --offline`` refuses exactly what admission refuses."""
    (tmp_path / "policy.json").write_text(json.dumps(case.manifest()), encoding="utf-8")
    arguments = ["check", "--offline", "-f", str(tmp_path / "policy.json"), "-o", "github"]
    arguments += [word for glob in case.allowed_issuers for word in ("--allowed-issuer", glob)]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert (result.return_value == 1) is (case.refused is not None), result.stdout


@pytest.fixture(scope="module")
def gateway_kubernetes(kubernetes: Cluster) -> Cluster:
    """Return a cluster with the gateway's resource definitions."""
    kubernetes.apply_crds(gateway_crds.current(kubernetes.programs.cache))
    kubernetes.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return kubernetes


@pytest.mark.e2e
@pytest.mark.timeout(40 * 60)
class TestCluster:
    """On a real API server, with the gateway's own resource definitions."""

    @pytest.fixture(params=LISTS, ids=lambda globs: ",".join(globs) or "any issuer")
    def guarded(self, request: pytest.FixtureRequest, helm: Helm, gateway_kubernetes: Cluster) -> Iterator[Cluster]:
        """Install the admission policy for one list of issuers."""
        values: dict[str, Any] = {"admission": {"enabled": True}, "allowedIssuers": list(request.param)}
        rendered = helm.render(values).objects
        objects = [found for found in rendered if found["kind"].startswith("ValidatingAdmission")]
        assert len(objects) == 2
        gateway_kubernetes.apply(*objects)
        # The server compiles it behind our back; until then it lets everything in.
        refused = next(case for case in CASES if case.refused == "region")
        eventually(lambda: self._said(gateway_kubernetes, refused))
        yield gateway_kubernetes
        for found in objects:
            gateway_kubernetes.kubectl("delete", found["kind"], found["metadata"]["name"])
        # That is noticed late, too: the next list's cases would be judged by this one's.
        eventually(lambda: not self._said(gateway_kubernetes, refused))

    def test_admission(self, guarded: Cluster, request: pytest.FixtureRequest) -> None:
        """Each case of the list is refused with its message, or let in."""
        globs = request.node.callspec.params["guarded"]
        wrong = {}
        for case in (case for case in CASES if case.allowed_issuers == globs):
            said = self._said(guarded, case)
            if (case.refused is None) != (said == "") or (case.refused or "") not in said:
                wrong[case.name] = said
        assert wrong == {}

    @staticmethod
    def _said(cluster: Cluster, case: Case) -> str:
        """Return with what the API server refuses a policy; nothing where it does not."""
        manifest = json.dumps(case.manifest())
        try:
            cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=manifest)
        except subprocess.CalledProcessError as error:
            return " ".join([str(error), *getattr(error, "__notes__", [])])
        return ""
