"""A kubeconfig without anything to be run, beside the vendor's loader: the same context comes of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from credrotator.kube.client.api_errors import ConfigurationError
from credrotator.kube.client.connection import find_connection
from credrotator.kube.client.kubeconfig import Kubeconfig
from credrotator.kube.client.plain_kubeconfig import read_plain
from credrotator.kube.client.vendor_kubeconfig import load_by_vendor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.kube.client.kubeconfig_context import LoadedContext
    from tests.support.kube.simulator import ApiServer

WORD = st.text("abcXYZ019-._:/ é", min_size=1, max_size=12)
NAMES = st.sampled_from(["one", "two", "three"])
PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
FILES = ("ca.crt", "client.crt", "client.key", "token")
clusters = st.fixed_dictionaries(
    {
        "server": st.sampled_from(
            ["https://10.0.0.1:6443", "https://api.example/", "http://127.0.0.1:8001", "https://[::1]/a/"]
        )
    },
    optional={
        "certificate-authority": st.just("ca.crt"),
        "certificate-authority-data": st.just(PEM),
        "tls-server-name": WORD,
        "proxy-url": WORD,
        "insecure-skip-tls-verify": st.booleans(),
        "disable-compression": st.booleans(),
        "extensions": st.just([{"name": "x", "extension": {"a": 1}}]),
    },
)
users = st.fixed_dictionaries(
    {},
    optional={
        "token": WORD,
        "tokenFile": st.just("token"),
        "client-certificate": st.just("client.crt"),
        "client-certificate-data": st.just(PEM),
        "client-key": st.just("client.key"),
        "client-key-data": st.just(PEM),
        "as": WORD,
        "as-groups": st.lists(WORD, max_size=2),
    },
)
contexts = st.fixed_dictionaries({"cluster": NAMES, "user": NAMES}, optional={"namespace": WORD})


def entries(kind: str, content: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Entries of a list, with names of their own."""
    return st.lists(
        st.fixed_dictionaries({"name": NAMES, kind: content}), max_size=3, unique_by=lambda entry: str(entry["name"])
    )


configs = st.fixed_dictionaries(
    {
        "clusters": entries("cluster", clusters),
        "users": entries("user", users),
        "contexts": entries("context", contexts),
    },
    optional={
        "current-context": NAMES,
        "kind": st.just("Config"),
        "apiVersion": st.just("v1"),
        "preferences": st.just({}),
    },
)


def seen(loaded: LoadedContext) -> dict[str, Any]:
    """All that a connection is made of, with the files' contents in place of their names."""
    with loaded.tls_files() as files:
        secure = loaded.server.startswith("https")
        contents = [
            Path(name).read_bytes() if name and secure else None for name in (files.ca, files.certificate, files.key)
        ]
    header = loaded.header()
    return {
        "server": loaded.server,
        "verified": loaded.verified,
        "context": loaded.context,
        "cluster": loaded.cluster,
        "user": loaded.user,
        "folder": loaded.folder,
        # A file's is read when it is needed, by somebody else.
        "header": header.reveal() if header and "tokenFile" not in loaded.user else None,
        "files": contents,
    }


@given(files=st.lists(configs, min_size=1, max_size=2), context=st.none() | NAMES)
def test_the_vendors_loader_says_the_same(files: list[dict[str, Any]], context: str | None) -> None:
    """Whatever is read here, it would have read so; what is not, it reads or refuses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in FILES:
            (folder / each).write_bytes(each.encode())
        for number, content in enumerate(files):
            (folder / f"config-{number}").write_text(yaml.safe_dump(content))
        paths = os.pathsep.join(str(folder / f"config-{number}") for number in range(len(files)))
        plain = read_plain(paths, context)
        if plain is not None:
            assert seen(plain) == seen(load_by_vendor(paths, context))


def write(folder: Path, name: str, **content: Any) -> Path:
    """Write a kubeconfig with one entry of each kind."""
    cluster = {"server": "https://api.example", **content.pop("cluster", {})}
    document = {
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": content.pop("user", {"token": "t"})}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **content.pop("context", {})}}],
        "current-context": name,
    }
    path = folder / name
    path.write_text(yaml.safe_dump({**document, **content}))
    return path


@pytest.mark.parametrize("plug_in", [False, True])
def test_the_first_current_context_counts(tmp_path: Path, plug_in: bool) -> None:  # noqa: FBT001 - a column of the table
    """As kubectl has it, whoever reads the files."""
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "interactiveMode": "Never"}
    printed = {"apiVersion": program["apiVersion"], "kind": "ExecCredential", "status": {"token": "p"}}
    script = f"print({json.dumps(printed)!r})"
    user: Mapping[str, Any] = {"exec": {**program, "args": ["-c", script]}} if plug_in else {"token": "p"}
    first = write(tmp_path, "first", user=user, context={"namespace": "of-first"})
    second = write(tmp_path, "second", context={"namespace": "of-second"})
    paths = os.pathsep.join(map(str, (first, second)))
    assert (read_plain(paths, None) is None) is plug_in
    assert find_connection(paths, None, environment={}).namespace == "of-first"
    assert find_connection(paths, "second", environment={}).namespace == "of-second"


def test_relative_names_begin_where_they_stand(tmp_path: Path) -> None:
    """A user's files lie beside the file in which the user stands, not beside the cluster's."""
    for folder, owner in (("a", "cluster"), ("b", "user")):
        (tmp_path / folder).mkdir()
        for name in FILES:
            (tmp_path / folder / name).write_text(f"{owner}'s {name}")
    one = write(tmp_path / "a", "x", users=[], cluster={"certificate-authority": "ca.crt"})
    other = write(tmp_path / "b", "x", user={"client-certificate": "client.crt", "client-key": "client.key"})
    plain = read_plain(os.pathsep.join(map(str, (one, other))), None)
    assert plain
    with plain.tls_files() as files:
        contents = [Path(str(name)).read_text() for name in (files.ca, files.certificate, files.key)]
    assert contents == ["cluster's ca.crt", "user's client.crt", "user's client.key"]


def test_keys_do_not_stay_in_files(tmp_path: Path) -> None:
    """Data of the kubeconfig lies in files for as long as they are read, where nobody else looks."""
    path = write(tmp_path, "x", user={"client-certificate-data": PEM, "client-key-data": PEM})
    plain = read_plain(str(path), None)
    assert plain
    with plain.tls_files() as files:
        key = Path(str(files.key))
        assert key.read_bytes() == base64.b64decode(PEM)
        assert key.parent.stat().st_mode & 0o077 == 0
    assert not key.parent.exists()


def test_no_room_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place for temporary files, data cannot be used, and what to do is said; files can."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    key = write(tmp_path, "x", user={"client-certificate-data": PEM, "client-key-data": PEM})
    with pytest.raises(ConfigurationError, match="No such file or directory; name files in it in place of data"):
        find_connection(str(key), None, environment={})
    assert find_connection(str(write(tmp_path, "x")), None, environment={}).server == "https://api.example"


@pytest.mark.parametrize(
    "content",
    [
        {"user": {"exec": {"command": "x"}}},
        {"user": {"auth-provider": {"name": "oidc"}}},
        {"user": {"username": "u", "password": "p"}},
        {"user": {"token": 1}},
        {"user": None},
        {"user": {"client-key-data": "no base64!"}},
        {"user": {"client-key": "missing.key"}},
        {"cluster": {"server": ""}},
        {"cluster": {"server": 1}},
        {"cluster": {"insecure-skip-tls-verify": "yes"}},
        {"cluster": {"of-tomorrow": True}},
        {"current-context": ""},
        {"current-context": "missing"},
        {"current-context": ["x"]},
        {"clusters": []},
        {"clusters": {"x": 1}},
        {"contexts": [{"name": "x"}]},
        {"users": [{"name": "x", "user": {}}, {"name": "x", "user": {}}]},
        {"users": ["x"]},
    ],
)
def test_what_is_left_to_the_vendors_loader(tmp_path: Path, content: dict[str, Any]) -> None:
    """Plug-ins, and all that is not as kubectl writes it: its words are the better ones."""
    assert read_plain(str(write(tmp_path, "x", **content)), None) is None


def test_a_token_that_was_replaced(tmp_path: Path) -> None:
    """Read again when the server refuses it."""
    path = write(tmp_path, "x", user={"token": "one"})
    kubeconfig = Kubeconfig(str(path), None)
    write(tmp_path, "x", user={"token": "two"})
    headers = [kubeconfig.read(afresh=afresh) for afresh in (False, True)]
    assert [header.reveal() if header else "" for header in headers] == ["Bearer one", "Bearer two"]


def test_the_vendors_loader_is_not_imported(server: ApiServer, tmp_path: Path) -> None:
    """Which is what it is for."""
    path = server.kubeconfig(tmp_path / "config", user={"token": "t"})
    program = (
        "import sys; from credrotator.kube.client.connection import find_connection;"
        f"find_connection({str(path)!r}, None, environment={{}}); sys.exit('kubernetes' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
