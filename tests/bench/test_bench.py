"""The benchmark itself, on works so small that their figures mean nothing: what it does is right, and it ends."""

from pathlib import Path

import pytest

from tests.bench import site
from tests.bench.rows import rows
from tests.bench.scale import Scale
from tests.bench.subjects import Gateway
from tests.support.parts.api import Json
from tests.support.parts.kubernetes import Programs

# It takes the real parts, which are minutes in the making on a cold machine.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(40 * 60)]

TINY = Scale(
    policies=20,
    sizes=(10, 20),
    issuers=5,
    hung_s=10.0,
    steady_s=30.0,
    lives_s=(60.0, 90.0),
    steady_lives_s=(40.0, 50.0),
    short_life_s=300.0,
    short_s=30.0,
    cold=1,
    goals=False,
)


def test_every_row(programs: Programs, gateway_program: Path, tmp_path: Path) -> None:
    """Each work is done by both rotators, with the calls that it takes, and nothing is lost on the way."""
    with site.serving(programs, tmp_path) as bench:
        measured = list(rows(bench, Gateway(gateway_program), TINY))

    def figures(work: str) -> Json:
        return next(row.figures for row in measured if row.work.startswith(work))

    for work in ("20 new policies, 50 ms", "20 new policies, 0 ms"):
        ours, peer = (figures(work)[name]["counts"] for name in ("ours", "peer"))
        assert (ours["discovery"], ours["token"], ours["exchange"]) == (1, 1, 20)
        assert peer["exchange"] == 20
    hung = figures("20 policies over 5 issuers")
    assert hung["ours"]["written"] == hung["ours"]["others"] == 16
    assert hung["peer"]["written"] < 16, "one worker, and an issuer that hangs"
    restart = figures("restart with 20 fresh Secrets")
    assert (restart["vendor_calls"], restart["writes"]) == (0, 0)
    assert figures("20 policies at steady state,")["rate"] > 0
    assert figures("20 policies at steady state, lives of 5 min")["rate"] > 0
    assert figures("a scrape")["size_bytes"] > 0
    assert figures("20 new policies of each of two tenants")["policies"] == 20
    assert figures("20 new policies in the managed form")["counts"]["exchange"] == 20
    assert figures("`rotate` of 20 new policies over a directory")["cpu_s"] > 0
    assert figures("20 new policies, shared by 2")["overlap"] == 0
    assert not [row for row in measured if row.goal or row.met is not None], "goals are for the full size"
