"""Bodies that harm a client which trusts them: no JSON, endless, exploding, hostile."""

from __future__ import annotations

import json
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import (
    CutShort,
    GzipBomb,
    Huge,
    Sandbox,
    garbage,
    hostile,
)
from tests.sandbox.conftest import DISCOVERY, TIMEOUT_S, ask_for_token, discover

if TYPE_CHECKING:
    import requests


@pytest.mark.parametrize("name", sorted(garbage()))
def test_fault_11_garbage(sandbox: Sandbox, http: requests.Session, name: str) -> None:
    """Fault 11: a 200 whose body is no JSON object."""
    sandbox.issuer.faults.add(garbage()[name], path="/token")
    answer = ask_for_token(http, sandbox.issuer)
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(answer.content))
    try:
        parsed: object = json.loads(answer.content)
    except (ValueError, RecursionError):
        parsed = None
    assert not isinstance(parsed, dict)


@pytest.mark.parametrize("framing", ["Content-Length", "Transfer-Encoding"])
def test_fault_12_huge(sandbox: Sandbox, http: requests.Session, framing: str) -> None:
    """Fault 12: a body of 1 GiB is streamed as fast as it is read, and ends when the client leaves."""
    sandbox.entra.faults.add(Huge(declared=framing == "Content-Length"))
    with closing(http.get(sandbox.entra.url, timeout=TIMEOUT_S, stream=True)) as answer:
        assert framing in answer.headers
        start = answer.raw.read(3_000_000)
    assert start.startswith(b'{"access_token": "aaaa')
    assert sandbox.entra.requests.wait_for(lambda log: log.in_flight == 0)


def test_huge_is_as_long_as_it_says(sandbox: Sandbox, http: requests.Session) -> None:
    """The announced length is the true one, so that only the size is at fault."""
    sandbox.issuer.faults.add(Huge(size_bytes=200_001, declared=True))
    assert len(discover(http, sandbox).content) == 200_001


def test_fault_12_gzip_bomb(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 12: about a megabyte on the wire unpacks to 1 GiB."""
    sandbox.issuer.faults.add(GzipBomb(), path=DISCOVERY, times=1)
    answer = discover(http, sandbox, stream=True, headers={"Accept-Encoding": "gzip"})
    with closing(answer):
        packed = answer.raw.read(decode_content=False)
    assert len(packed) < 1_200_000
    assert len(zlib.decompressobj(wbits=31).decompress(packed)) == 1 << 20
    assert packed.count(b"\x1f\x8b\x08") == 1024


def test_fault_46_hostile_text(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 46: line breaks, terminal codes and a megabyte of text arrive in the description, on all servers."""
    sandbox.issuer.faults.add(hostile("invalid_client"))
    sandbox.entra.faults.add(hostile("7000215"))
    sandbox.sts.faults.add(hostile("AccessDenied"))
    for answer in (
        ask_for_token(http, sandbox.issuer).json()["error_description"],
        http.post(sandbox.entra.url, timeout=TIMEOUT_S).json()["error_description"],
        http.post(sandbox.sts.url, timeout=TIMEOUT_S).text,
    ):
        assert len(answer) >= 1_000_000
        assert "\nlevel=INFO msg=forged" in answer


def test_cut_short_is_well_framed(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 11: the content ends early while the length in the head is right, also for XML."""
    sandbox.sts.faults.add(CutShort(keep=0.3))
    answer = http.post(sandbox.sts.url, timeout=TIMEOUT_S)
    assert answer.text.startswith("<ErrorResponse")
    assert "</ErrorResponse>" not in answer.text
