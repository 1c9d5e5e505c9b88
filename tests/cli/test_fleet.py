"""``status`` over several clusters: one table, each cluster's trouble its own."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from credrotator.app.fleet import read_clusters
from credrotator.app.settings import Settings
from credrotator.core.errors import Transient, UsageError
from tests.support.command_line import offered, run
from tests.support.kube.fixtures import _no_own_cluster
from tests.support.kube.simulator import ApiServer
from tests.support.manifests import POLICIES, aws, secret, static

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.command_line import Ran

__all__ = ["_no_own_cluster"]

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_text()))


class Fleet:
    """Simulated clusters by their contexts' names, and a kubeconfig for all; ``dark`` is one that nobody runs."""

    def __init__(self, servers: dict[str, ApiServer], directory: Path) -> None:
        self.servers = servers
        self.kubeconfig = directory / "kubeconfig"
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            dark = f"http://127.0.0.1:{unused.getsockname()[1]}"
        self.write({name: server.url for name, server in servers.items()} | {"dark": dark})

    def write(self, urls: dict[str, str]) -> None:
        """Write the kubeconfig; the first context is the current one."""
        contexts = [{"name": name, "context": {"cluster": name, "user": "tester"}} for name in urls]
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": next(iter(urls)),
            "contexts": contexts,
            "clusters": [{"name": name, "cluster": {"server": url}} for name, url in urls.items()],
            "users": [{"name": "tester", "user": {"token": "tester"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config, sort_keys=False))

    def status(self, *arguments: str) -> Ran:
        """Run ``status`` over it, in this process."""
        return run("status", "--kubeconfig", str(self.kubeconfig), *arguments)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two clusters that answer, and one that does not: a static policy that is well, and one without a credential."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(ApiServer()) for name in ("north", "south")}
        servers["north"].create("secrets", secret("key", apiKey="x"))
        servers["north"].create(POLICIES, static("plain"))
        servers["south"].create(POLICIES, aws("bedrock"))
        yield Fleet(servers, tmp_path)


class TestTable:
    """For a person."""

    def test_one_table(self, fleet: Fleet) -> None:
        """Each policy with its cluster; the cluster that cannot be read is one line, with the reason."""
        ran = fleet.status("-A", "--all-contexts")
        lines = ran.out.splitlines()
        assert lines[0].split()[:2] == ["CONTEXT", "POLICY"]
        assert lines[1].split()[:4] == ["north", "default/plain", "api-key", "Static"]
        assert lines[2].split()[:4] == ["south", "default/bedrock", "aws-oidc", "Missing"]
        assert lines[3].startswith("dark      ")
        assert "cannot be reached: 127.0.0.1:" in lines[3]
        assert sum("dark" in line for line in lines) == 1
        assert lines[-1] == "2 policies in 2 of 3 clusters: 1 Static, 1 Missing"
        assert (ran.code, ran.err) == (0, "")

    def test_the_named_ones(self, fleet: Fleet) -> None:
        """In the order in which they are named, each once."""
        ran = fleet.status("-A", "--contexts", "south,north", "--contexts", "north")
        assert [line.split()[0] for line in ran.out.splitlines()[:3]] == ["CONTEXT", "south", "north"]

    def test_wide_and_sorted(self, fleet: Fleet) -> None:
        """The other options hold as for one cluster."""
        ran = fleet.status("-A", "--contexts", "north,south", "-o", "wide", "--sort-by", "state")
        assert [line.split()[0] for line in ran.out.splitlines()[:3]] == ["CONTEXT", "south", "north"]
        assert "ACKNOWLEDGED" in ran.out

    def test_causes(self, fleet: Fleet) -> None:
        """What is explained below the table names its cluster."""
        fleet.servers["south"].create(POLICIES, static("lost", "nowhere"))
        assert "south: default/lost: Broken: " in fleet.status("-A", "--contexts", "south").out

    def test_quiet(self, fleet: Fleet) -> None:
        """What needs attention, and what cannot be read; nothing of a fleet that is well."""
        told = fleet.status("-A", "--all-contexts", "-q").out
        assert "default/plain" not in told
        assert "default/bedrock" in told
        assert "dark" in told
        assert fleet.status("-A", "--contexts", "north", "-q").out == ""

    def test_names_of_policies(self, fleet: Fleet) -> None:
        """A policy may be in one cluster only; one that is nowhere is a mistake, unless a cluster was not read."""
        ran = fleet.status("--contexts", "north,south", "default/bedrock")
        assert [line.split()[0] for line in ran.out.splitlines()[:2]] == ["CONTEXT", "south"]
        assert fleet.status("--contexts", "north,south", "default/nobody").code == 2
        assert fleet.status("--all-contexts", "default/nobody").code == 0

    def test_a_partial_answer(self, fleet: Fleet) -> None:
        """What could not be read of a cluster is said with its name."""
        fleet.servers["south"].forbid("list", "aigatewayroutes")
        ran = fleet.status("-A", "--contexts", "north,south", "--exit-code", "-o", "json")
        problems = {each["context"]: each["problems"] for each in json.loads(ran.out)["clusters"]}
        assert problems["north"] == []
        assert "cannot be listed" in problems["south"][0]
        assert "warning: south: " in ran.err

    def test_watching(self, fleet: Fleet) -> None:
        """The machine formats are refused, as for one."""
        assert fleet.status("--all-contexts", "--watch", "-o", "json").code == 2


class TestMachines:
    """For scripts."""

    def test_json(self, fleet: Fleet) -> None:
        """By cluster, as the schema says; without the options the document is what it was."""
        document = json.loads(fleet.status("-A", "--all-contexts", "-o", "json").out)
        SCHEMA.validate(document)
        found = {each["context"]: [policy["policy"] for policy in each["policies"]] for each in document["clusters"]}
        assert found == {"north": ["default/plain"], "south": ["default/bedrock"], "dark": []}
        assert ["cannot be reached" in (each["error"] or "") for each in document["clusters"]] == [False, False, True]
        one = json.loads(fleet.status("-A", "-o", "json").out)
        SCHEMA.validate(one)
        assert list(one) == ["policies"]

    def test_names(self, fleet: Fleet) -> None:
        """Context and policy with a tab between them; why one is missing is on standard error."""
        ran = fleet.status("-A", "--all-contexts", "-o", "name")
        assert ran.out == "north\tdefault/plain\nsouth\tdefault/bedrock\n"
        assert ran.err.startswith("warning: dark: ")

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("--contexts", "north", "--exit-code"), 0),
            (("--contexts", "north,south", "--exit-code"), 1),
            (("--contexts", "north,dark", "--exit-code"), 1),
            (("--contexts", "north,dark"), 0),
            (("--contexts", "dark"), 2),
            (("--contexts", "dark", "--exit-code"), 2),
        ],
    )
    def test_exit_codes(self, fleet: Fleet, arguments: tuple[str, ...], code: int) -> None:
        """1 with ``--exit-code`` where one needs attention or cannot be read; 2 where none can be read."""
        assert fleet.status("-A", *arguments).code == code


class TestMistakes:
    """Each ends with 2 and says what is wrong."""

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (("--contexts", "nroth"), "did you mean north?"),
            (("--contexts", ","), "there is no context"),
            (("--contexts", "north", "--all-contexts"), "exclude each other"),
            (("--contexts", "north", "--context", "south"), "exclude each other"),
        ],
    )
    def test_contexts(self, fleet: Fleet, arguments: tuple[str, ...], why: str) -> None:
        """Names that are not there, and options that contradict each other."""
        ran = fleet.status(*arguments)
        assert ran.code == 2
        assert why in ran.err

    def test_manifests(self, tmp_path: Path) -> None:
        """Manifests have no contexts."""
        ran = run("status", "-f", str(tmp_path), "--all-contexts")
        assert (ran.code, "-f reads manifests" in ran.err) == (2, True)

    def test_no_kubeconfig(self) -> None:
        """Nothing to choose from."""
        ran = run("status", "--all-contexts")
        assert (ran.code, "there is no kubeconfig" in ran.err) == (2, True)

    def test_a_context_of_the_environment(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is for commands that name none."""
        monkeypatch.setenv("CREDROTATOR_CONTEXT", "dark")
        assert fleet.status("-A", "--contexts", "north").code == 0


class TestReading:
    """How clusters are read side by side."""

    def test_bounded(self) -> None:
        """No more at a time than are allowed, and all in the end, in their order."""
        lock, gate = threading.Lock(), threading.Barrier(2)
        at_once: list[int] = [0, 0]

        def read(settings: Settings) -> str:
            with lock:
                at_once[0] += 1
                at_once[1] = max(at_once)
            gate.wait()
            with lock:
                at_once[0] -= 1
            return f"of {settings.context}"

        readings = read_clusters(Settings(()), ["a", "b", "c", "d"], read, at_a_time=2)
        assert [reading.content for reading in readings] == ["of a", "of b", "of c", "of d"]
        assert at_once[1] == 2

    def test_one_that_hangs(self) -> None:
        """It is given up, and holds up nobody else, however few are read at a time."""
        forever = threading.Event()

        def read(settings: Settings) -> str:
            if settings.context == "hangs":
                forever.wait()
            return "read"

        readings = read_clusters(Settings(()), ["hangs", "b"], read, at_a_time=1, limit_s=0.05)
        forever.set()
        assert [(reading.content, "no answer" in (reading.error or "")) for reading in readings] == [
            (None, True),
            ("read", False),
        ]

    def test_errors(self) -> None:
        """A cluster's own trouble is a sentence with the hint; a fault of ours is not hidden."""
        errors = {"a": UsageError("no such user"), "b": Transient("Away", "it is away", hint="wait")}

        def read(settings: Settings) -> str:
            raise errors[str(settings.context)]

        told = [reading.error for reading in read_clusters(Settings(()), ["a", "b"], read)]
        assert told == ["no such user", "it is away; wait"]
        with pytest.raises(KeyError):
            read_clusters(Settings(()), ["c"], read)


class TestCompletion:
    """Contexts of the kubeconfig, for a shell."""

    def test_lists(self, fleet: Fleet) -> None:
        """Each entry of a list is completed, with those that are not in it yet."""
        line = f"credrotator status --kubeconfig {fleet.kubeconfig} "
        assert offered(f"{line}--context n") == ["plain,north"]
        assert offered(f"{line}--contexts ") == ["plain,dark", "plain,north", "plain,south"]
        assert offered(f"{line}--contexts north,") == ["plain,north,dark", "plain,north,south"]
        assert offered(f"{line}--contexts north,s") == ["plain,north,south"]

    @pytest.mark.parametrize("content", ["contexts: [{name: [x]}, 3]", "[", "contexts: x", "\xff"])
    def test_whatever_there_is(self, tmp_path: Path, content: str) -> None:
        """A kubeconfig that cannot be read completes to nothing."""
        (tmp_path / "config").write_text(content, encoding="latin-1")
        assert offered(f"credrotator status --kubeconfig {tmp_path / 'config'} --contexts ") == []
