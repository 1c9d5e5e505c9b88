"""A kubeconfig as kubectl takes it: as whom, by which plug-in, from which of several files; what is wrong with it."""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api import KubeApi
from credrotator.kube.client.api_errors import ConfigurationError
from credrotator.kube.client.connection import find_connection

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.kube.simulator import ApiServer

pytestmark = pytest.mark.timeout(60)

PLUG_IN = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


def credential(version: str = "v1", **parts: Any) -> str:
    """What a plug-in prints."""
    return json.dumps({"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential", **parts})


def refusal(kubeconfig: Path | str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Look for a cluster in vain; return why."""
    with pytest.raises(ConfigurationError) as caught:
        find_connection(None if kubeconfig is None else str(kubeconfig), None, environment=environment or {})
    assert str(caught.value).isprintable()
    return str(caught.value)


class TestImpersonation:
    """``as`` and its companions: to leave them out would be to act with the base user's rights."""

    def asked_as(self, server: ApiServer, tmp_path: Path, **user: Any) -> list[tuple[str, str]]:
        """Ask the server, by a watch as well; return the headers that say as whom."""
        path = server.kubeconfig(tmp_path / "config", user={"token": "base", **user})
        connection = find_connection(str(path), None, environment={})
        with KubeApi(connection) as api:
            api.get("/version")
        assert server.requests[-1].user == "base"
        return list(connection.headers)

    def test_a_user(self, server: ApiServer, tmp_path: Path) -> None:
        """client-go, ``NewImpersonatingRoundTripper``."""
        name = "system:serviceaccount:team-a:rotator"
        assert self.asked_as(server, tmp_path, **{"as": name}) == [("Impersonate-User", name)]

    def test_all_of_it(self, server: ApiServer, tmp_path: Path) -> None:
        """Groups and values of extra fields come one by one; a field's name is escaped where a header needs it."""
        extra = {"scopes": ["view", "edit"], "example.com/team 50%": ["a"]}
        user = {"as": "jane", "as-uid": "u-1", "as-groups": ["dev", "ops"], "as-user-extra": extra}
        headers = self.asked_as(server, tmp_path, **user)
        assert headers[0] == ("Impersonate-User", "jane")
        assert sorted(headers[1:]) == sorted(
            [
                ("Impersonate-Uid", "u-1"),
                ("Impersonate-Group", "dev"),
                ("Impersonate-Group", "ops"),
                ("Impersonate-Extra-scopes", "view"),
                ("Impersonate-Extra-scopes", "edit"),
                ("Impersonate-Extra-example.com%2Fteam%2050%25", "a"),
            ]
        )

    def test_each_group_is_a_header_of_its_own(self, server: ApiServer, tmp_path: Path) -> None:
        """Joined by a comma they would be one group of that name."""
        user = {"token": "base", "as": "jane", "as-groups": ["dev", "ops"]}
        with KubeApi.from_config(str(server.kubeconfig(tmp_path / "config", user=user))) as api:
            api.get("/version")
            with api.watch("/api/v1/namespaces/default/secrets", timeoutSeconds=1):
                pass
        for request in server.requests[-2:]:
            assert request.headers.get_all("Impersonate-Group") == ["dev", "ops"]
            assert request.headers["Impersonate-User"] == "jane"

    @pytest.mark.parametrize("user", [{"as-groups": ["ops"]}, {"as-uid": "1"}, {"as-user-extra": {"a": ["b"]}}])
    def test_without_whom(self, server: ApiServer, tmp_path: Path, user: dict[str, Any]) -> None:
        """Groups without a user are refused, as client-go refuses them."""
        assert "not as whom: add as" in refusal(server.kubeconfig(tmp_path / "config", user={"token": "t", **user}))

    @pytest.mark.parametrize(
        "user",
        [
            {"as": 1},
            {"as": ["a"]},
            {"as": "a\nX-Evil: 1"},
            {"as": "a", "as-groups": "ops"},
            {"as": "a", "as-groups": [1]},
            {"as": "a", "as-user-extra": ["b"]},
            {"as": "a", "as-user-extra": {"b": "c"}},
        ],
    )
    def test_what_cannot_be_sent(self, server: ApiServer, tmp_path: Path, user: dict[str, Any]) -> None:
        """Refused by the field's name, not left out."""
        assert "the kubeconfig's " in refusal(server.kubeconfig(tmp_path / "config", user={"token": "t", **user}))

    def test_nobody(self, server: ApiServer, tmp_path: Path) -> None:
        """Empty fields mean no one else."""
        assert self.asked_as(server, tmp_path, **{"as": "", "as-groups": [], "as-user-extra": {}, "as-uid": None}) == []


class TestPlugIns:
    """A credential plug-in's own words say best what is wrong with it."""

    def plug_in(self, server: ApiServer, tmp_path: Path, script: str, **entry: Any) -> Path:
        """Write a plug-in, and a kubeconfig that names it."""
        program = tmp_path / "plug-in"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        user = {"exec": {**PLUG_IN, "command": str(program), **entry}}
        return server.kubeconfig(tmp_path / "config", user=user)

    @pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
    def test_one_that_fails(self, server: ApiServer, tmp_path: Path, version: str) -> None:
        """Its standard error is shown, its exit code too."""
        named = {"apiVersion": f"client.authentication.k8s.io/{version}"}
        path = self.plug_in(server, tmp_path, "echo 'no session;' >&2; echo log in first >&2; exit 3", **named)
        assert "process returned 3. no session; log in first" in refusal(path)

    def test_one_that_is_not_installed(self, server: ApiServer, tmp_path: Path) -> None:
        """Said with the kubeconfig's own hint, by the name that is missing."""
        entry = {**PLUG_IN, "command": "kubelogin-not-there", "installHint": "get it\nfrom https://x.example"}
        said = refusal(server.kubeconfig(tmp_path / "config", user={"exec": entry}))
        assert "plug-in kubelogin-not-there failed: it is not installed, or not on the PATH" in said
        assert said.endswith("its installHint: get it from https://x.example")

    def test_one_that_may_not_be_run(self, server: ApiServer, tmp_path: Path) -> None:
        """Another reason than its absence."""
        path = self.plug_in(server, tmp_path, "exit 0")
        (tmp_path / "plug-in").chmod(0o600)
        assert "Permission denied" in refusal(path)

    @pytest.mark.parametrize(
        "output",
        [
            "",
            "not json",
            "[]",
            "{}",
            credential(),
            credential(status={}),
            credential(status={"token": ""}),
            credential(status="x"),
            credential(version="v1beta1", status={"token": "t"}),
            credential(status={"clientCertificateData": "x"}),
        ],
    )
    def test_one_that_gives_nothing(self, server: ApiServer, tmp_path: Path, output: str) -> None:
        """Whatever it prints in a credential's place, nobody is asked without one."""
        assert "credential plug-in" in refusal(self.plug_in(server, tmp_path, f"cat <<'END'\n{output}\nEND"))

    def test_a_flood_of_words(self, server: ApiServer, tmp_path: Path) -> None:
        """The end of them is shown, where the reason stands; control characters are not."""
        script = (
            "i=0; while [ $i -lt 500 ]; do echo noise $i >&2; i=$((i+1)); done; printf 'the reason\\033[2J' >&2; exit 1"
        )
        said = refusal(self.plug_in(server, tmp_path, script))
        assert "the reason" in said
        assert "noise 0 " not in said
        assert len(said) < 800

    def test_one_that_works_again(self, server: ApiServer, tmp_path: Path) -> None:
        """A credential that has expired is asked for anew, and a failure then leaves its words in the error."""
        printed = credential(status={"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"})
        path = self.plug_in(
            server, tmp_path, f"test -e {tmp_path}/gone && {{ echo gone >&2; exit 1; }}; echo '{printed}'"
        )
        source = find_connection(str(path), None, environment={}).credentials
        assert source.read(afresh=False) == Sensitive("Bearer t")
        (tmp_path / "gone").touch()
        with pytest.raises(ConfigurationError, match=r"process returned 1\. gone"):
            source.read(afresh=True)


class TestFiles:
    """Which of several files count, and what is said of one that does not."""

    def test_empty_files_are_passed_over(self, server: ApiServer, tmp_path: Path) -> None:
        """As kubectl does: tools make them, and KUBECONFIG names some that are not there."""
        used = server.kubeconfig(tmp_path / "used", namespace="used")
        for name, text in (("empty", ""), ("comment", "# nothing yet\n---\n"), ("null", "null\n"), ("object", "{}\n")):
            (tmp_path / name).write_text(text)
        names = [tmp_path / name for name in ("empty", "missing", "comment", "used", "null", "object")]
        found = find_connection(None, None, environment={"KUBECONFIG": os.pathsep.join(map(str, names))})
        assert (found.server, found.namespace) == (server.url, "used")
        assert find_connection(f"{tmp_path / 'empty'}{os.pathsep}{used}", None, environment={}).namespace == "used"

    def test_nothing_but_empty_files(self, tmp_path: Path) -> None:
        """Named by the flag it is a mistake; by the variable it means no kubeconfig, as /dev/null does."""
        (tmp_path / "empty").touch()
        assert refusal(tmp_path / "empty").endswith("empty is empty")
        for name in (str(tmp_path / "empty"), os.devnull, os.pathsep):
            assert refusal(environment={"KUBECONFIG": name}) == "there is no kubeconfig, and this is no pod"

    def test_one_that_is_missing(self, tmp_path: Path) -> None:
        """None of those that are named is there."""
        missing = str(tmp_path / "missing")
        assert refusal(missing) == refusal(environment={"KUBECONFIG": missing}) == f"there is no kubeconfig {missing}"

    @pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
    def test_one_that_cannot_be_looked_at(self, tmp_path: Path, name: str) -> None:
        """It is not said to be missing."""
        assert "cannot be read" in refusal(f"{tmp_path}/{name}")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_one_that_may_not_be_read(self, server: ApiServer, tmp_path: Path) -> None:
        """Nor is one that may not be read, or lies where nobody may go."""
        path = server.kubeconfig(tmp_path / "config")
        path.chmod(0)
        assert "cannot be read: Permission denied" in refusal(path)
        path.chmod(0o600)
        tmp_path.chmod(0)
        try:
            assert "cannot be read: Permission denied" in refusal(path)
        finally:
            tmp_path.chmod(0o700)

    def test_a_directory(self, tmp_path: Path) -> None:
        """Named as what it is."""
        assert refusal(tmp_path) == f"the kubeconfig {tmp_path} cannot be read: Is a directory"

    def test_a_device_without_end(self) -> None:
        """It is read no further than any kubeconfig goes."""
        assert "longer than 4 MiB" in refusal("/dev/zero")

    @pytest.mark.parametrize(
        "text",
        [
            "hello world\n",
            "- a\n- b\n",
            "42\n",
            "clusters: text\nusers: text\ncontexts: text\ncurrent-context: x\n",
            "clusters: [1]\ncontexts: [1]\nusers: [1]\ncurrent-context: x\n",
            "clusters: [{name: c}]\ncontexts: [{name: x}]\ncurrent-context: x\n",
            "a: b\n",
            "kind: Secret\napiVersion: v1\n",
            "mapping values: are: not allowed\n",
            "a: !!int ''\n",
            "a: !!bool perhaps\n",
            "[" * 3000,
            "\tx",
            "}{",
        ],
    )
    def test_what_is_no_kubeconfig(self, tmp_path: Path, text: str) -> None:
        """Any text file at all is one sentence."""
        path = tmp_path / "config"
        path.write_text(text)
        assert f"the kubeconfig {path} cannot be used: " in refusal(path)

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        """A picture, or UTF-16."""
        path = tmp_path / "config"
        path.write_bytes("kind: Config".encode("utf-16"))
        assert refusal(path).endswith("cannot be used: it is not UTF-8 text")

    def test_a_user_without_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No HOME, and no entry in passwd, as in many containers: there is no kubeconfig at home."""

        def nobody(_uid: int) -> pwd.struct_passwd:
            raise KeyError("uid not found")

        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", nobody)
        assert refusal() == "there is no kubeconfig, and this is no pod"
        with pytest.raises(ConfigurationError, match="there is no kubeconfig"):
            find_connection(None, "some-context", environment={})

    def test_what_a_shell_substitutes(self, server: ApiServer, tmp_path: Path) -> None:
        """``--kubeconfig <(…)`` is a pipe that can be read once."""
        text = server.kubeconfig(tmp_path / "config", namespace="piped").read_text()
        assert yaml.safe_load(text)
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        try:
            assert find_connection(f"/dev/fd/{reading}", None, environment={}).namespace == "piped"
        finally:
            os.close(reading)
