"""The table of exit codes in docs/cli.md: each of its rows is made to happen, for each of its commands."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import ServiceError
from tests.support.command_line import Backend, policy, run
from tests.support.kube.fixtures import _no_own_cluster, server
from tests.support.manifests import POLICIES, aws
from tests.support.tools import load_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.sandbox import Sandbox
    from tests.support.kube.simulator import ApiServer

__all__ = ["_no_own_cluster", "server"]

ROOT = Path(__file__).parents[2]
reference = load_tool("reference")
COLUMNS, EXIT_CODES = reference.COLUMNS, reference.EXIT_CODES


def nothing_failed(world: Backend, _: Sandbox) -> list[str]:
    """A policy that can be rotated, and one that needs no rotation."""
    world.aws()
    world.static()
    return []


def refused(world: Backend, sandbox: Sandbox) -> list[str]:
    """STS says no."""
    world.aws()
    sandbox.sts.faults.add(ServiceError("AccessDenied"))
    return []


def cannot_work(world: Backend, _: Sandbox) -> list[str]:
    """A field of the policy is empty."""
    world.invalid()
    return []


def secret_missing(world: Backend, _: Sandbox) -> list[str]:
    """A static policy without its Secret."""
    world.write("static", policy("static", "default", "APIKey", apiKey={"secretRef": {"name": "nowhere"}}))
    return []


def manifest_unreadable(world: Backend, _: Sandbox) -> list[str]:
    """One file of the directory is no YAML."""
    world.aws()
    (world.manifests / "broken.yaml").write_text("a: [b\n")
    return []


def no_such_file(world: Backend, _: Sandbox) -> list[str]:
    """A second ``-f`` that leads nowhere."""
    world.aws()
    return ["-f", str(world.directory / "nowhere")]


def no_such_policy(world: Backend, _: Sandbox) -> list[str]:
    """A name that no manifest has."""
    world.aws()
    return ["default/nobody"]


def no_policy_selected(world: Backend, _: Sandbox) -> list[str]:
    """A policy, but in another namespace."""
    world.aws()
    return ["-n", "elsewhere"]


def unknown_option(world: Backend, _: Sandbox) -> list[str]:
    """An option that no command has."""
    world.aws()
    return ["--no-such-option"]


SITUATIONS: dict[str, Callable[[Backend, Sandbox], list[str]]] = {
    "no policy failed": nothing_failed,
    "a policy was refused by its issuer or by the cloud": refused,
    "a policy cannot work as written": cannot_work,
    "a Secret that a policy names is missing": secret_missing,
    "one of several manifests cannot be read": manifest_unreadable,
    "a file or directory that is named does not exist": no_such_file,
    "a policy that is named does not exist": no_such_policy,
    "the manifests of `-f` have no policy, or none that `-n` and `-l` select": no_policy_selected,
    "an option is unknown, or its value is not allowed": unknown_option,
}
EMPTY = "a cluster has no policy, or none that `-n` and `-l` select"
FORBIDDEN = "this account may not list the policies of the cluster"
UNREACHABLE = "the API server cannot be reached"


@pytest.mark.parametrize("command", COLUMNS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_exit_code(situation: str, command: str, world: Backend, sandbox: Sandbox) -> None:
    """What the table says of a command in a situation is what it ends with."""
    arguments = SITUATIONS[situation](world, sandbox)
    if command == "status --exit-code":
        run("rotate", "-f", str(world.manifests), "--out", str(world.out), *arguments)
    ran = run(*command.split(), "-f", str(world.manifests), "--out", str(world.out), *arguments)
    assert ran.code == EXIT_CODES[situation][COLUMNS.index(command)], ran.out + ran.err


@pytest.mark.parametrize("command", COLUMNS)
def test_exit_code_without_rights(command: str, tmp_path: Path, server: ApiServer) -> None:
    """Only check has something to say all the same."""
    server.forbid("list", POLICIES)
    ran = run(*command.split(), "--kubeconfig", str(server.kubeconfig(tmp_path / "kubeconfig")), "-A")
    assert ran.code == EXIT_CODES[FORBIDDEN][COLUMNS.index(command)], ran.err


@pytest.mark.parametrize("command", COLUMNS)
def test_exit_code_of_a_link_to_nowhere(command: str, world: Backend, sandbox: Sandbox) -> None:
    """A file that cannot be opened counts as one that is no YAML, and the other policies go on."""
    world.aws()
    (world.manifests / "gone.yaml").symlink_to("nowhere")
    arguments = ["-f", str(world.manifests), "--out", str(world.out)]
    if command == "status --exit-code":
        run("rotate", *arguments)
    ran = run(*command.split(), *arguments)
    assert ran.code == EXIT_CODES["one of several manifests cannot be read"][COLUMNS.index(command)], ran.err
    assert "gone.yaml:1: cannot be read: No such file or directory" in ran.out + ran.err


@pytest.mark.parametrize("command", COLUMNS)
def test_exit_code_without_an_api_server(command: str, world: Backend) -> None:
    """Nobody listens where the kubeconfig leads."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kubeconfig = world.directory / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: a, users: [{name: a, user: {}}],"
        " contexts: [{name: a, context: {cluster: a, user: a}}],"
        f' clusters: [{{name: a, cluster: {{server: "http://127.0.0.1:{port}"}}}}]}}'
    )
    ran = run(*command.split(), "--kubeconfig", str(kubeconfig), "-A")
    assert ran.code == EXIT_CODES[UNREACHABLE][COLUMNS.index(command)], ran.err


@pytest.mark.parametrize("selection", [["-A"], ["-n", "elsewhere"], ["-l", "team=nobody"]])
@pytest.mark.parametrize("command", COLUMNS)
def test_exit_code_without_policies(command: str, selection: list[str], tmp_path: Path, server: ApiServer) -> None:
    """Of the cluster, of a namespace, or with a label; it is said in one line."""
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    if selection != ["-A"]:
        server.create(POLICIES, aws())
    ran = run(*command.split(), "--kubeconfig", str(kubeconfig), *selection)
    assert ran.code == EXIT_CODES[EMPTY][COLUMNS.index(command)], ran.err
    assert ran.err.startswith("there is no BackendSecurityPolicy")
    assert len(ran.err.splitlines()) == 1


def test_every_row_is_held() -> None:
    """No row stands in the table that nothing here makes happen."""
    assert set(EXIT_CODES) == {*SITUATIONS, EMPTY, FORBIDDEN, UNREACHABLE}


@pytest.mark.parametrize("variable", ["CREDROTATOR_FILENAME", "CREDROTATOR_NAMESPACE"])
def test_variables_with_several_values(variable: str, world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are separated as the reference shows it: paths by a colon, others by a space."""
    world.aws("one", "team-a")
    world.aws("two", "team-b")
    files = [str(world.manifests / name) for name in ("team-a-one.yaml", "team-b-two.yaml")]
    values = {"CREDROTATOR_FILENAME": files, "CREDROTATOR_NAMESPACE": ["team-a", "team-b"]}[variable]
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    (separator,) = re.findall(rf"`{variable}`, `A(.)B`", page)
    monkeypatch.setenv(variable, separator.join(values))
    named = [] if variable == "CREDROTATOR_FILENAME" else ["-f", str(world.manifests)]
    ran = run("status", *named, "--out", str(world.out), "-o", "json")
    assert ran.out.count('"policy": "team-') == 2, ran.err
