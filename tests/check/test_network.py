"""``check`` and the way to an issuer: proxies, addresses that may not be called, and time that others took."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credrotator.core.errors import Denied
from credrotator.diagnosis.network import name_certificate
from credrotator.exchange.http import connections
from credrotator.exchange.http.connections import ForbiddenAddressError
from credrotator.exchange.http.deadline import deadline
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.transport import Transport
from credrotator.sandbox import Certificate, Sandbox
from tests.check.checking import Checking, cause, failed_step


@pytest.mark.parametrize(("public", "described"), [(2, True), (1, False)])
def test_security_11_a_refused_name_is_judged_again(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    public: int,
    described: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Security 11: to describe a refused certificate, the name is looked up once more, and judged once more."""
    sandbox.issuer.faults.add(Certificate("unknown-ca"))
    judged: list[str] = []

    def check(host: str, _: object) -> None:
        judged.append(host)
        if len(judged) > public:
            raise ForbiddenAddressError(f"{host} resolves to 127.0.0.1")

    genuine = connections.resolve
    monkeypatch.setattr(connections, "resolve", lambda _, port, timeout_s: genuine("127.0.0.1", port, timeout_s))
    monkeypatch.setattr(connections, "check_addresses", check)
    with Transport(ISSUER, guarded=True, bundles=(str(sandbox.ca_file),)) as transport, pytest.raises(Denied) as caught:
        name_certificate(f"https://idp.example:{sandbox.issuer.port}/", transport)
    assert ("O=stranger" in caught.value.message) is described
    assert judged == ["idp.example"] * 2


class TestProxies:
    """Between here and the issuer (fault 49)."""

    def checking(self, sandbox: Sandbox, proxy: str) -> Checking:
        """Return a check whose requests go through a proxy."""
        environment = {**sandbox.environment(), "HTTPS_PROXY": proxy, "NO_PROXY": ""}
        return Checking(sandbox, environment=environment)

    def test_through_it(self, sandbox: Sandbox) -> None:
        """It resolves names, TLS goes through, and its password is not shown."""
        proxy = sandbox.add_proxy()
        proxy.credentials = ("me", "hush")
        report = self.checking(sandbox, proxy.url.replace("//", "//me:hush@")).aws()
        details = {step.name: step.detail for step in report.steps if step.endpoint == "issuer"}
        assert not report.failed
        assert details["dns"] == "left to the proxy"
        assert details["proxy"] == f"through {proxy.url}"
        assert "credrotator sandbox" in details["tls"]

    def test_it_wants_a_user(self, sandbox: Sandbox) -> None:
        """And none is given."""
        proxy = sandbox.add_proxy()
        proxy.credentials = ("me", "hush")
        report = self.checking(sandbox, proxy.url).aws()
        assert (failed_step(report).name, failed_step(report).endpoint) == ("proxy", "issuer")
        assert "407" in cause(report)
        assert "user:password@" in cause(report)

    def test_it_is_down(self, sandbox: Sandbox) -> None:
        """Nobody listens there."""
        proxy = sandbox.add_proxy()
        url = proxy.url
        proxy.stop()
        report = self.checking(sandbox, url).aws()
        assert failed_step(report).name == "proxy"
        assert "refused" in cause(report)
        assert "whether it runs" in cause(report)

    def test_it_does_not_let_through(self, sandbox: Sandbox) -> None:
        """The sandbox's proxy leads to the loopback interface only."""
        checking = Checking(
            sandbox,
            allowed="https://idp.example",
            environment={**sandbox.environment(), "HTTPS_PROXY": sandbox.add_proxy().url, "NO_PROXY": ""},
        )
        report = checking.aws(issuer="https://idp.example")
        assert failed_step(report).name == "proxy"
        assert "does not let requests to this host through" in cause(report)

    def test_it_is_none(self, sandbox: Sandbox) -> None:
        """A proxy of a kind that is not spoken."""
        report = self.checking(sandbox, "socks5://proxy.example:1080").aws()
        assert failed_step(report).name == "proxy"
        assert "HTTPS_PROXY" in cause(report)

    def test_certificates_behind_it(self, sandbox: Sandbox) -> None:
        """What is wrong behind the proxy is not the proxy's."""
        checking = self.checking(sandbox, sandbox.add_proxy().url)
        sandbox.issuer.faults.add(Certificate("unknown-ca"))
        report = checking.aws()
        assert failed_step(report).name == "tls"
        assert "--ca-file" in cause(report)


def test_no_step_is_blamed_for_the_time_of_others(sandbox: Sandbox) -> None:
    """When nothing is left of the whole, the next step says that, and not that a name does not resolve."""
    with deadline(timedelta(0)):
        report = Checking(sandbox).aws()
    assert "the steps before this one took all the time" in cause(report)
    assert "--timeout" in cause(report)


def test_fault_47_a_name_that_leads_here(sandbox: Sandbox) -> None:
    """An address that a policy may not name shows with its name, and nobody is called there."""
    sandbox.issuer.requests.clear()
    report = Checking(sandbox, allowed=None).aws()
    assert failed_step(report).name == "dns"
    assert "resolves to 127.0.0.1" in cause(report)
    assert "--allowed-issuer" in cause(report)
    assert len(sandbox.issuer.requests) == 0
