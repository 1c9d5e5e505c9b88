"""The filter's configuration in both shapes: what is read of it, and that nothing of it is told."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import ObjectKey
from credrotator.core.secretdata import content_hash
from credrotator.core.sensitive import Sensitive
from credrotator.kube.filter_config import (
    LONGEST_BYTES,
    UnreadableConfigError,
    config_names,
    read_config,
    read_index,
    read_parts,
    read_whole,
    written_at,
)
from tests.support.filter_configs import GATEWAY, INDEX, WHOLE, backend, parts, whole

if TYPE_CHECKING:
    from collections.abc import Callable

CREDENTIAL = "[default]\naws_access_key_id = AKIA\naws_secret_access_key = s3cr3t\n"
NAMES = config_names(GATEWAY)


def config_text(*backends: dict[str, Any]) -> str:
    """Write a configuration."""
    return yaml.safe_dump({"version": "v1.1.0", "backends": list(backends)})


def in_parts(text: str, size: int) -> bytes:
    """Read a configuration as it is read from parts."""
    *pieces, index_secret = parts(text, size)
    by_name = {piece["metadata"]["name"]: piece for piece in pieces}
    index = read_index(index_secret, NAMES)
    return read_parts(index, [by_name[name] for name in index.parts])


class TestNames:
    """Names of the Secrets, as the controller makes them."""

    def test_usual(self) -> None:
        """The end of an index's name is a hash of NAMESPACE/GATEWAY."""
        assert (NAMES.whole, NAMES.index) == (WHOLE, INDEX)
        assert NAMES.parts[0] == f"{INDEX}-part-000"
        assert len(NAMES.parts) == 8

    @given(
        st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
        st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True),
    )
    def test_they_fit(self, namespace: str, name: str) -> None:
        """However long the Gateway's name is, those of parts and index can be names of objects, and differ."""
        names = config_names(ObjectKey(namespace, name))
        made = [names.index, *names.parts]
        assert all(len(each) <= 253 for each in made)
        assert len(set(made)) == len(made)


class TestShapes:
    """One Secret, or an index with parts: the same comes out."""

    @given(st.lists(st.text(max_size=200), max_size=5), st.integers(40, 400))
    def test_both_say_the_same(self, credentials: list[str], size: int) -> None:
        """Wherever the parts are cut, in the middle of a character too."""
        text = config_text(*(backend(f"b{number}", value) for number, value in enumerate(credentials)))
        size = max(size, len(text.encode()) // 8 + 1)
        assert in_parts(text, size) == read_whole(whole(text)) == text.encode()

    def test_while_it_is_written(self) -> None:
        """Parts of another version than the index are not taken for a configuration."""
        old, new = (config_text(backend("bedrock", CREDENTIAL + each)) for each in ("old", "new"))
        index = read_index(parts(old)[-1], NAMES)
        with pytest.raises(UnreadableConfigError):
            read_parts(index, parts(new)[:-1])
        with pytest.raises(UnreadableConfigError):
            read_parts(index, [{}])

    def test_a_foreign_part(self) -> None:
        """An index leads to nothing but the parts of its own Gateway: other Secrets of the namespace stay unread."""
        for name in ("envoy-gateway", "", f"{INDEX}-part-008"):
            document = {"checksum": "0" * 64, "parts": [{"name": name}]}
            secret = {"data": {"index.yaml": base64.b64encode(yaml.safe_dump(document).encode()).decode()}}
            with pytest.raises(UnreadableConfigError):
                read_index(secret, NAMES)

    def test_written_at(self) -> None:
        """The latest of all writes; nothing where the server notes none."""
        found = whole("", at="2026-11-24T12:00:00Z")
        found["metadata"]["managedFields"].append({"time": "2026-11-24T11:00:00Z"})
        assert written_at(found) == "2026-11-24T12:00:00Z"
        assert written_at({"metadata": {"managedFields": ["?", {}]}}) == written_at({}) == ""


class TestContent:
    """Hashes of credentials, by backend."""

    @pytest.mark.parametrize("kind", ["aws", "azure", "gcp", "apiKey"])
    def test_hash_is_that_of_the_secret(self, kind: str) -> None:
        """Each vendor's text, byte by byte, under the key of the Secret in which it was published."""
        config = read_config(config_text(backend("b", CREDENTIAL, kind=kind)).encode(), ["credentials", "apiKey"])
        (texts,) = config.backends[ObjectKey("default", "b")]
        for key in ("credentials", "apiKey"):
            assert content_hash({key: Sensitive(CREDENTIAL)}) in texts
        assert texts == config.texts

    @given(st.text(), st.text())
    def test_another_credential(self, one: str, other: str) -> None:
        """Equal credentials have equal hashes, and others have others."""
        config = read_config(config_text(backend("b", one)).encode(), ["k"])
        found = content_hash({"k": Sensitive(other)}) in config.texts
        assert found == (other in {one, "us-east-1"})

    def test_many_routes(self) -> None:
        """A backend that several rules name is there with all that they have."""
        text = config_text(backend("b", "one"), backend("b", "two", rule=1), backend("b", "one", namespace="team-b"))
        config = read_config(text.encode(), ["k"])
        assert {key: len(texts) for key, texts in config.backends.items()} == {("default", "b"): 2, ("team-b", "b"): 1}

    def test_without_credential(self) -> None:
        """A backend that needs none is not one with another credential."""
        text = config_text({"name": "default/b/route/r/rule/0/ref/0"}, {"name": 7}, {})
        assert not read_config(text.encode(), ["k"]).backends
        assert not read_config(b"version: v1", ["k"]).backends

    def test_hostile_shapes(self) -> None:
        """Whatever stands where a credential should, it is bounded and raises nothing else."""
        deep: Any = "x"
        for _ in range(50):
            deep = {"auth": deep}
        wide = {str(number): "x" * number for number in range(1000)}
        for auth in (deep, wide, [["x"]], 7, None):
            text = config_text({"name": "default/b/route/r", "auth": auth})
            config = read_config(text.encode(), ["k"])
            assert len(config.texts) <= 16

    @pytest.mark.parametrize(
        "text",
        [b"", b"[]", b"backends: 7", b"backends: [", b"\xff", b"a: &a [*a]", b"[" * 5000, b"x" * (LONGEST_BYTES + 1)],
        ids=lambda text: text[:12].decode("latin-1"),
    )
    def test_unreadable(self, text: bytes) -> None:
        """One error for all that is no configuration."""
        with pytest.raises(UnreadableConfigError):
            read_config(text, ["k"])

    @pytest.mark.parametrize(
        "attempt",
        [
            lambda: read_config(b"a: s3cr3t\na: s3cr3t\n? [s3cr3t", ["k"]),
            lambda: read_config(b"- s3cr3t", ["k"]),
            lambda: read_whole({"data": {"filter-config.yaml": "s3cr3t!"}}),
            lambda: read_index({"data": {"index.yaml": base64.b64encode(b"parts: [s3cr3t]").decode()}}, NAMES),
        ],
    )
    def test_quotes_nothing(self, attempt: Callable[[], object]) -> None:
        """I6: an error has nothing of the text that it is about, nor has what it came from."""
        with pytest.raises(UnreadableConfigError) as failed:
            attempt()
        error: BaseException | None = failed.value
        while error is not None:
            assert "s3cr3t" not in str(error) or error.__suppress_context__
            assert "s3cr3t" not in str(failed.value)
            error = error.__cause__

    def test_keeps_hashes_only(self) -> None:
        """I6: what is kept of a configuration cannot be used at a vendor."""
        assert "s3cr3t" not in repr(read_config(config_text(backend("b", CREDENTIAL)).encode(), ["k"]))
        assert hashlib.sha256(CREDENTIAL.encode()).hexdigest()[:16] not in repr(NAMES)
