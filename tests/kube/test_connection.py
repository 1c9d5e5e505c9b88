"""Which cluster is meant, how its credentials are kept fresh, and which way the requests go."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import trustme

from credrotator.app.cluster import connect
from credrotator.core.errors import UsageError
from credrotator.core.sensitive import Sensitive
from credrotator.kube.client import authorization
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import ClusterNotNamed, ConfigurationError
from credrotator.kube.client.authorization import Authorization, BearerTokenFile
from credrotator.kube.client.connection import Connection, find_connection

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.kube.simulator import ApiServer


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """Make what the kubelet mounts into a pod."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    trustme.CA().cert_pem.write_to_path(folder / "ca.crt")
    (folder / "token").write_text("first\n")
    (folder / "namespace").write_text("gateway")
    return folder


@pytest.mark.parametrize(("host", "url"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")])
def test_a_pod_uses_its_service_account(pod: Path, host: str, url: str) -> None:
    """Without a kubeconfig, the pod's own token, CA and namespace count."""
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    found = find_connection(None, None, environment=environment, service_account=pod)
    assert (found.server, found.namespace, found.proxy) == (url, "gateway", None)
    assert found.credentials.read(afresh=False) == Sensitive("Bearer first")
    assert found.tls


def test_a_pod_does_not_import_the_kubernetes_package() -> None:
    """It is slow and large, and a pod has no kubeconfig to read."""
    modules = "credrotator.kube.client.api, credrotator.kube.client.informer"
    script = f"import sys, {modules}; sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_named_kubeconfig_wins_over_the_environment(server: ApiServer, tmp_path: Path, pod: Path) -> None:
    """The flag, then KUBECONFIG, then the home directory, then the pod: kubectl's order."""
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBECONFIG": str(tmp_path / "from-variable")}
    server.kubeconfig(tmp_path / "from-variable", namespace="variable")
    named = server.kubeconfig(tmp_path / "named", namespace="named")
    home = tmp_path / "home" / ".kube"
    home.mkdir(parents=True)
    server.kubeconfig(home / "config", namespace="home")
    assert find_connection(str(named), None, environment=environment).namespace == "named"
    assert find_connection(None, None, environment=environment).namespace == "variable"
    del environment["KUBECONFIG"]
    assert find_connection(None, None, environment=environment, service_account=pod).namespace == "home"
    (home / "config").unlink()
    assert find_connection(None, None, environment=environment, service_account=pod).namespace == "gateway"


def test_no_cluster_is_wrong_use() -> None:
    """The message says what to name."""
    with pytest.raises(ClusterNotNamed):
        find_connection(None, None, environment={})
    with pytest.raises(UsageError, match="--kubeconfig"):
        connect(None, None)


def test_what_cannot_be_used_is_refused_with_a_reason(server: ApiServer, tmp_path: Path) -> None:
    """A broken kubeconfig is wrong use, never a traceback and never an unverified connection."""
    path = tmp_path / "config"
    plug_in = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere"}
    cases: list[tuple[dict[str, object], dict[str, object] | None, str]] = [
        ({"insecure-skip-tls-verify": True, "server": "https://a"}, None, "insecure-skip-tls-verify"),
        ({"proxy-url": "socks5://a:1"}, None, "neither http nor https"),
        ({"server": "ftp://a"}, None, "neither https nor http"),
        ({"server": "https://a", "certificate-authority": "absent.pem"}, None, "cannot be used"),
        ({}, {"exec": plug_in}, "plug-in"),
    ]
    for cluster, user, said in cases:
        server.kubeconfig(path, cluster=cluster, user=user)
        with pytest.raises(ConfigurationError, match=said):
            find_connection(str(path), None, environment={})
    with pytest.raises(ConfigurationError, match="absent"):
        find_connection(str(path), "absent", environment={})
    path.write_text("}{")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        find_connection(str(path), None, environment={})
    with pytest.raises(ConfigurationError, match="no kubeconfig"):
        find_connection(str(tmp_path / "missing"), None, environment={})


def test_an_exec_plug_in_gives_the_token(server: ApiServer, tmp_path: Path) -> None:
    """What EKS, GKE and AKS put into kubeconfigs works."""
    plug_in = tmp_path / "plug-in"
    credential = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "e"}}'
    plug_in.write_text(f"#!/bin/sh\necho '{credential}'\n")
    plug_in.chmod(0o700)
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plug_in),
        "interactiveMode": "Never",
    }
    path = server.kubeconfig(tmp_path / "config", user={"exec": entry})
    with KubeApi.from_config(str(path)) as api:
        api.get("/version")
    assert server.requests[-1].user == "e"


def test_fault_49_the_environments_proxy_is_not_for_the_api_server(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY is for issuers and vendors: traffic to the API server is not proxied by accident."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with KubeApi.from_config(str(server.kubeconfig(tmp_path / "config"))) as api:
        assert api.get("/version")


def test_fault_49_the_kubeconfigs_own_proxy_is_used(server: ApiServer, tmp_path: Path) -> None:
    """``proxy-url`` is meant for just this traffic: an absent proxy is noticed, not bypassed."""
    path = server.kubeconfig(tmp_path / "config", cluster={"proxy-url": "http://127.0.0.1:1"})
    with KubeApi.from_config(str(path)) as api, pytest.raises(ApiError) as raised:
        api.get("/version")
    assert (raised.value.status, raised.value.reason) == (0, "ProxyFailed")
    assert server.requests == []


class TestFault31:
    """Row 31: the service account token is replaced while we run."""

    def test_fault_31_a_refused_token_is_read_again(
        self, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One 401, one reading of the file, one more try of the same request; nobody else sees it."""
        monkeypatch.setattr(authorization, "REFUSED_EVERY", timedelta())
        token = tmp_path / "token"
        token.write_text("old\n")
        server.tokens = {"old"}
        path = server.kubeconfig(tmp_path / "config", user={"tokenFile": "token"})
        with KubeApi.from_config(str(path)) as api:
            api.get("/version")
            server.tokens = {"new"}
            token.write_text("new\n")
            assert api.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "x"}})
            assert [request.user for request in server.requests] == ["old", "old", "new"]
            assert not api.unauthorized_for()

    def test_fault_31_a_token_file_wins_over_a_literal(self, server: ApiServer, tmp_path: Path) -> None:
        """As in client-go; only the file can be read again."""
        (tmp_path / "token").write_text("from file\n")
        path = server.kubeconfig(tmp_path / "config", user={"token": "literal", "tokenFile": "token"})
        with KubeApi.from_config(str(path)) as api:
            api.get("/version")
        assert server.requests[-1].user == "from file"

    def test_fault_31_a_lasting_refusal_is_told_by_its_age(
        self, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No second try with the same token; readiness can see for how long nothing but 401 came."""
        server.tokens = set()
        with server.api() as api:
            for _ in range(2):
                with pytest.raises(ApiError) as raised:
                    api.get("/version")
            assert raised.value.status == 401
            assert api.unauthorized_for() > timedelta()
            assert len(server.requests) == 2
            server.tokens = None
            api.get("/version")
            assert not api.unauthorized_for()

    def test_fault_31_the_file_is_read_each_minute(self, tmp_path: Path) -> None:
        """Projected tokens are replaced well before they expire; a minute is soon enough."""
        token, now = tmp_path / "token", [0.0]
        token.write_text("first")
        kept = Authorization(BearerTokenFile(token), monotonic=lambda: now[0])
        assert kept.header() == Sensitive("Bearer first")
        token.write_text("second")
        now[0] = 59.0
        assert kept.header() == Sensitive("Bearer first")
        now[0] = 60.0
        assert kept.header() == Sensitive("Bearer second")

    def test_fault_31_a_file_that_vanishes_leaves_the_old_token(self, tmp_path: Path) -> None:
        """The old token may still be good; without any, the error says which file."""
        token, now = tmp_path / "token", [0.0]
        token.write_text("first")
        kept = Authorization(BearerTokenFile(token), monotonic=lambda: now[0])
        kept.header()
        token.unlink()
        now[0] = 120.0
        assert kept.header() == Sensitive("Bearer first")
        assert not kept.renew(Sensitive("Bearer first"))
        with (
            KubeApi(Connection("http://127.0.0.1:1", BearerTokenFile(token))) as api,
            pytest.raises(ApiError) as raised,
        ):
            api.get("/version")
        assert (raised.value.status, str(token) in raised.value.message) == (401, True)

    def test_fault_31_refusals_do_not_make_it_read_in_a_loop(self) -> None:
        """An exec plug-in costs a process: at most one reading a second, however many requests are refused."""
        now, readings = [0.0], [0]

        class Counting:
            def read(self, *, afresh: bool) -> Sensitive:
                readings[0] += 1
                return Sensitive("Bearer same")

        kept = Authorization(Counting(), monotonic=lambda: now[0])
        for step in range(100):
            now[0] = step / 50
            assert not kept.renew(kept.header())
        assert readings[0] <= 3
