"""Kinds of values on the command line: durations, addresses, values for some issuers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from credrotator.app.settings import ISSUER_GLOB
from credrotator.core.durations import parse_duration


class Span(click.ParamType[timedelta]):
    """A duration on the command line, in Go's notation.

    Args:
        positive: Whether none at all is a mistake, as it is for a time limit.
    """

    name = "duration"

    def __init__(self, *, positive: bool = False) -> None:
        self._positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """See click.ParamType."""
        if isinstance(value, timedelta):
            return value
        try:
            duration = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self._positive and not duration:
            self.fail(f"expected more than {value}, such as 30s", param, ctx)
        return duration


class ForIssuers(click.ParamType[tuple[str, str]]):
    """``GLOB=VALUE`` on the command line: a value for the issuers that a glob names."""

    name = "for issuers"

    def __init__(self, what: str) -> None:
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        glob, _, meant = str(value).partition("=")
        if not ISSUER_GLOB.fullmatch(glob) or not meant:
            # Without what was written: a password may stand in it.
            self.fail(f"expected GLOB={self._what}, the glob such as https://idp.example/*", param, ctx)
        return glob, meant


class Line(click.ParamType[str]):
    """A text with spaces in it; of several in one variable, each is a line."""

    name = "line"
    # Click's default is white space, which would take a command line apart.
    envvar_list_splitter = "\n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """See click.ParamType."""
        return str(value)


class Address(click.ParamType[tuple[str, int]]):
    """``ADDR:PORT`` on the command line; ``:8080`` means all addresses, port 0 any free one."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest port
            self.fail(f"expected ADDR:PORT such as 127.0.0.1:8080, got {value}", param, ctx)
        # An IPv6 address stands in brackets before a port (RFC 3986 §3.2.2), and sockets want it without.
        return host.strip("[]"), int(port)
