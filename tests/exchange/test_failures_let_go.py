"""A failure that nobody holds is gone at once, with all that was read; it does not wait for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import RotationError
from credrotator.sandbox import Answer, CutShort, Override, Refuse, ServiceError, garbage
from tests.support.exchanging import POLICY, Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.sandbox import Fault
    from credrotator.sandbox.service import Service

AT_THE_ISSUER: dict[str, Callable[[], Fault]] = {
    "a megabyte": lambda: Override({"access_token": "x" * 1_000_000}),
    "unavailable": lambda: Answer(503),
    "refused": Refuse,
    "cut short": CutShort,
    "a web page": lambda: garbage()["html"],
    "a client that is none": lambda: ServiceError("invalid_client", status=401),
}
# NOTE: what botocore's hooks raise is held by botocore's own frame (``endpoint.py``, ``_get_response``).
AT_STS: dict[str, Callable[[], Fault]] = {
    "denied": lambda: ServiceError("AccessDenied"),
    "a web page": lambda: garbage()["html"],
}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Let nothing be collected that is held by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def failure(world: Backend, service: Service, fault: Fault) -> weakref.ref[RotationError]:
    """Fail, and hold nothing of it."""
    with service.faults.add(fault):
        try:
            world.exchanger()(POLICY, world.aws(), world.secrets)
        except RotationError as error:
            return weakref.ref(error)
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("name", AT_THE_ISSUER)
def test_invariant_14_of_an_issuer(world: Backend, name: str) -> None:
    """Whatever the issuer did."""
    assert failure(world, world.issuer, AT_THE_ISSUER[name]())() is None


@pytest.mark.parametrize("name", AT_STS)
def test_invariant_14_of_a_vendor(world: Backend, name: str) -> None:
    """What the vendor answered."""
    assert failure(world, world.sandbox.sts, AT_STS[name]())() is None
