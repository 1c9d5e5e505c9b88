"""Commands that people run in the pod know the settings that the pod's own command has, and can be told others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest

from credrotator.cli.main import COMMANDS, cli
from credrotator.cli.options import PolicyCommand
from tests.chart.rendering import NAME, NAMESPACE
from tests.chart.switches import CRONJOB
from tests.support.logging_state import kept_logging

if TYPE_CHECKING:
    from tests.chart.rendering import Helm, Rendered

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(20 * 60)]

TOKENS = "/var/run/secrets/credrotator.io/tokens"
EVERYTHING: dict[str, Any] = {
    "verbosity": 1,
    "watchNamespaces": ["team-a", "team-b"],
    "selector": "tier in (gold, silver),!trial",
    "allowedIssuers": ["https://a.example/realms/*", "https://b.example/*"],
    "timeout": "1m",
    "workers": 4,
    "azure": {"scope": "api://x/.default"},
    "caBundle": {"secret": "corporate"},
    "tokenFiles": [{"name": "aws", "audience": "a"}, {"name": "aws", "namespace": "team-a", "audience": "b"}],
    "verifyCredentials": True,
    "verifyDelivery": {
        "gateways": [{"namespace": "prod", "name": "envoy"}, {"namespace": "prod", "name": "other"}],
        "filterNamespace": "envoys",
    },
}
"""Each value that is an option, other than its default."""
SAID: dict[str, Any] = {
    "namespace": ("team-a", "team-b"),
    "selector": "tier in (gold, silver),!trial",
    "allowed_issuer": ("https://a.example/realms/*", "https://b.example/*"),
    "workers": 4,
    "azure_scope": "api://x/.default",
    "ca_file": "/etc/credrotator/ca/ca.crt",
    "token_file": (f"aws={TOKENS}/aws", f"team-a/aws={TOKENS}/team-a.aws"),
    "lease": f"{NAMESPACE}/{NAME}",
    "verify_credentials": True,
    "verify_delivery": ("prod/envoy", "prod/other"),
    "filter_namespace": "envoys",
}
"""What they are as options, but for those that are parsed."""
OF_THE_DAEMON = {"listen"}
BY_HAND = [name for name in COMMANDS if name != "run"]
NEEDED = {"credential-process": ["prod/aws"]}
"""Arguments that a command cannot do without."""


@pytest.fixture(autouse=True)
def no_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine says; the levels that -v sets are put back by the reader."""
    for variable in [*_variables()]:
        monkeypatch.delenv(variable, raising=False)


def _command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli, info_name="credrotator"), name)
    assert command
    return command


def _variables() -> set[str]:
    return {str(option.envvar) for name in COMMANDS for option in _command(name).params if option.envvar}


def read(name: str, arguments: list[str], rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the options of a command that is called in the pod."""
    with monkeypatch.context() as patched, kept_logging():
        for variable, value in rendered.environment().items():
            patched.setenv(variable, value)
        context = click.Context(cli, info_name="credrotator")
        return _command(name).make_context(name, [*arguments, *NEEDED.get(name, [])], parent=context).params


def main_command(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the options of the command that the container starts."""
    name, *arguments = [argument for argument in rendered.container()["args"] if argument != "-v"]
    return read(name, arguments, rendered, monkeypatch)


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """Return the options that both have, with different values."""
    return {name for name in one.keys() & other.keys() if one[name] != other[name]}


def test_every_value_reaches_the_daemon(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon has each setting as it was written: entries with spaces, and several of them, stay what they are."""
    daemon = main_command(helm.render(EVERYTHING), monkeypatch)
    assert {name: daemon[name] for name in SAID} == SAID
    assert daemon["timeout"].total_seconds() == 60
    usual = _command("run").make_context("run", []).params
    assert differing(daemon, usual) == {*SAID, "timeout", *OF_THE_DAEMON}


@pytest.mark.parametrize("name", [name for name in BY_HAND if isinstance(_command(name), PolicyCommand)])
def test_commands_by_hand_know_what_the_daemon_knows(helm: Helm, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option that a command shares with the daemon has the daemon's value, without being typed."""
    rendered = helm.render(EVERYTHING)
    by_hand = read(name, [], rendered, monkeypatch)
    assert {"namespace", "selector", "allowed_issuer", "ca_file", "token_file", "azure_scope"} <= by_hand.keys()
    assert differing(by_hand, main_command(rendered, monkeypatch)) == set()


@pytest.mark.parametrize("name", [name for name in BY_HAND if not isinstance(_command(name), PolicyCommand)])
def test_variables_do_no_harm_to_other_commands(helm: Helm, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that reads no policies starts in the pod as elsewhere."""
    arguments = {"completion": ["bash"]}.get(name, [])
    assert read(name, arguments, helm.render(EVERYTHING), monkeypatch) == (
        _command(name).make_context(name, [*arguments]).params
    )


def test_the_job_shares_its_settings_and_not_its_task(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the job's command a person has the settings; how far ahead it renews and what it prints is its own."""
    values = {name: value for name, value in EVERYTHING.items() if name != "verifyDelivery"}
    rendered = helm.render({**values, **CRONJOB})
    by_hand = read("rotate", [], rendered, monkeypatch)
    assert differing(by_hand, main_command(rendered, monkeypatch)) == {"within", "output"}


@pytest.mark.parametrize("values", [{}, CRONJOB], ids=str)
def test_all_namespaces_have_to_be_said(helm: Helm, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable says -A, since it would win over the -n of a person, and --force would be for everybody."""
    rendered = helm.render(values)
    assert main_command(rendered, monkeypatch)["all_namespaces"]
    assert not read("rotate", ["-n", "team-a"], rendered, monkeypatch)["all_namespaces"]


def test_what_is_typed_wins(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of extraArgs win for the pod's command, and options for a command by hand."""
    typed = ["--namespace=c", "--selector=x", "--allowed-issuer=https://c/*", "--timeout=2m", "--workers=3"]
    rendered = helm.render({**EVERYTHING, "extraArgs": [*typed, "--lease=c/other", "--ca-file=/ca.pem"]})
    daemon, check = main_command(rendered, monkeypatch), read("check", typed[:4], rendered, monkeypatch)
    assert (daemon["lease"], daemon["ca_file"], daemon["workers"]) == ("c/other", "/ca.pem", 3)
    for found in (daemon, check):
        assert (found["namespace"], found["selector"], found["allowed_issuer"]) == (("c",), "x", ("https://c/*",))
        assert found["timeout"].total_seconds() == 120


def test_own_variables_win(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What env and extraEnv say replaces the chart's variable: each name stands once, so that an upgrade can merge."""
    extra = [{"name": "CREDROTATOR_TIMEOUT", "value": "2m"}]
    env = {
        "CREDROTATOR_WORKERS": 8,
        "CREDROTATOR_ISSUER_CA": "https://a.example/*=/ca.pem",
        "HTTPS_PROXY": "http://b:1",
    }
    rendered = helm.render({"env": env, "extraEnv": extra, "proxy": {"https": "http://a:1"}})
    names = [item["name"] for item in rendered.container()["env"]]
    assert len(names) == len({*names})
    assert rendered.environment()["HTTPS_PROXY"] == "http://b:1"
    for found in (main_command(rendered, monkeypatch), read("rotate", [], rendered, monkeypatch)):
        assert (found["workers"], found["timeout"].total_seconds()) == (8, 120)
        assert found["issuer_ca"] == (("https://a.example/*", "/ca.pem"),)
