"""Masking: by name, by shape, by value; and what it costs."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from urllib.parse import quote_plus

import pytest

from credrotator.core.sensitive import Sensitive
from credrotator.observability import redaction
from credrotator.observability.redaction import LONGEST, MASK, MaskingFormatter, by_name, by_pattern, by_value, masked

SECRET = "s3cret with/odd+signs%&\"'"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(("text", "shown"), [
    ("{'WebIdentityToken': 'a b\\' c', 'n': 1}", "{'WebIdentityToken': ***, 'n': 1}"),
    ('{"access_token": "a\\"b", "expires_in": 1}', '{"access_token": ***, "expires_in": 1}'),
    ("<SecretAccessKey>a/b+c</SecretAccessKey>", "<SecretAccessKey>***</SecretAccessKey>"),
    ("<SessionToken>a==</SessionToken>", "<SessionToken>***</SessionToken>"),
    ("scope=x&client_secret=a%20b&n=1", "scope=x&client_secret=***&n=1"),
    ("client_assertion=abc", "client_assertion=***"),
    ("Authorization: Basic YTpi==", "Authorization: ***"),
    ("{'Authorization': 'Bearer abc'}", "{'Authorization': ***}"),
    ("('Authorization', b'Bearer abc')", "('Authorization', b***)"),
    ("Proxy-Authorization: Basic YTpi", "Proxy-Authorization: ***"),
    ("X-Amz-Security-Token: abc", "X-Amz-Security-Token: ***"),
    ("aws_secret_access_key = abc\nregion = x", "aws_secret_access_key = ***\nregion = x"),
    ('{"azureAccessToken":"abc"}', '{"azureAccessToken":***}'),
    ("{'private_key': 'abc', 'private_key_id': 'k'}", "{'private_key': ***, 'private_key_id': 'k'}"),
    ("subject_token=abc&audience=x", "subject_token=***&audience=x"),
    ("the access_token is missing or empty", "the access_token is missing or empty"),
    ("token endpoint https://idp.example/token", "token endpoint https://idp.example/token"),
])  # fmt: skip
def test_by_name(text: str, shown: str) -> None:
    """The values of telling names, however a library writes them; prose about them stays."""
    assert by_name(text) == shown


@pytest.mark.parametrize(("text", "shown"), [
    (f"assertion {JWT}, and more", "assertion ***, and more"),
    (f"cut short {JWT[:40]}", "cut short ***"),
    ("AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=a, Signature=0a1b", "***"),
    ("proxy http://me:pass@host:1/", "proxy http://me:***@host:1/"),
    ("key -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nand", "key ***\nand"),
    ("cut -----BEGIN RSA PRIVATE KEY-----\\nMII", "cut ***"),
    ("-----BEGIN CERTIFICATE-----\nMII", "-----BEGIN CERTIFICATE-----\nMII"),
    ("https://host:9443/a@b and eyJ", "https://host:9443/a@b and eyJ"),
])  # fmt: skip
def test_by_shape(text: str, shown: str) -> None:
    """What can be nothing else; also in our own lines."""
    assert by_pattern(text) == shown


def test_by_value() -> None:
    """What a Sensitive holds is masked for as long as it lives, whatever stands around it."""
    held = Sensitive(SECRET)
    assert by_value(f"a {SECRET} b") == f"a {MASK} b"
    assert held
    del held
    assert SECRET in by_value(f"a {SECRET} b")


@pytest.mark.parametrize("form", [repr(SECRET), quote_plus(SECRET), json.dumps(SECRET)])
def test_by_value_in_another_encoding(form: str) -> None:
    """Form-encoded or escaped, the whole line is withheld: what exactly to mask in it is not known."""
    held = Sensitive(SECRET)
    assert by_value(f"value {form} sent") == MASK or MASK in by_value(f"value {form} sent")
    assert "odd" not in by_value(f"value {form} sent")
    assert held


def test_by_value_of_several() -> None:
    """One secret may be a part of another, and two may be equal."""
    held = [Sensitive("secret-one"), Sensitive("secret-one-and-more"), Sensitive("secret-one")]
    assert by_value("secret-one-and-more secret-one") == f"{MASK} {MASK}"
    del held[2]
    assert by_value("secret-one") == MASK


def _line(name: str, message: str, *, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord(name, logging.DEBUG, __file__, 1, message, None, info)
    return MaskingFormatter("%(message)s").format(record)


def test_lines() -> None:
    """Vendors' lines are masked in all ways, our own by shape; with a traceback, ours too."""
    held = Sensitive("s3cret-value")
    assert _line("urllib3.connectionpool", "got s3cret-value") == f"got {MASK}"
    assert _line("credrotator.oidc", f"clientSecret: required {JWT}") == f"clientSecret: required {MASK}"
    assert "s3cret-value" not in _line("credrotator", "failed", error=LookupError("s3cret-value"))
    assert "LookupError" in _line("credrotator", "failed", error=LookupError("s3cret-value"))
    assert _line("credrotatorx", "s3cret-value") == MASK
    assert held


def test_a_long_line_of_a_vendor() -> None:
    """A body is not worth the search; its length is told."""
    assert _line("botocore.parsers", "x" * (LONGEST + 1)) == (
        f"DEBUG botocore.parsers: {LONGEST + 1} characters, too many to look for secrets in"
    )
    assert len(_line("credrotator.check", "x" * (LONGEST + 1))) == LONGEST + 1


def test_an_uncaught_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback that ends a process or a thread is masked as well; other people's hooks stay."""
    held = Sensitive("s3cret-value")
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        redaction.install(sys.stderr)
    finally:
        root.handlers[:], root.level = handlers, level

    def fail() -> None:
        raise LookupError(held.reveal())

    thread = threading.Thread(target=fail, name="worker-1")
    thread.start()
    thread.join()
    try:
        fail()
    except LookupError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.count("Traceback") == said.count(f"LookupError: {MASK}") == 2
    assert "Exception in thread worker-1" in said
    assert "s3cret-value" not in said
    monkeypatch.setattr(sys, "excepthook", print)
    redaction.install(sys.stderr)
    root.handlers[:], root.level = handlers, level
    assert sys.excepthook is print


def test_cost() -> None:
    """10 000 policies' secrets slow our own lines not at all, and a vendor's by some milliseconds."""
    held = [Sensitive(f"{number:08}" + "x" * 600) for number in range(20_000)]
    line = "published default/ai-eg-bsp-x for default/x (Missing): expiry None, request 1234" * 2
    assert _best_s(lambda: by_pattern(line)) < 0.001
    assert _best_s(lambda: masked("y" * 2000)) < 0.1
    assert masked(held[-1].reveal()) == MASK


def _best_s(act: object) -> float:
    assert callable(act)
    times_s = []
    for _ in range(5):
        started_s = time.thread_time()
        act()
        times_s.append(time.thread_time() - started_s)
    return min(times_s)
