"""How large the works are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of the works.

    Attributes:
        policies: What both rotators get.
        sizes: At which the cost per policy is taken; the last is also that of a restart and of the steady state.
        issuers: Over which the policies are spread where one issuer hangs.
        hung_s: For how long that is watched.
        steady_s: For how long the steady state is watched.
        lives_s: Shortest and longest life of a credential where none is to fall due.
        steady_lives_s: The same in the steady state; the rate follows from these and the policies: what lives for ten
            minutes or less is renewed at half of its life.
        short_life_s: The life of a credential where lives are short.
        short_s: For how long that is watched.
        cold: How often ``rotate`` is started.
        deployments: That share the policies of ``sizes[-1]``.
        latency_s: Of a vendor's answer, where it has one.
        goals: Whether the goals were made for this size.
    """

    policies: int
    sizes: tuple[int, ...]
    issuers: int
    hung_s: float
    steady_s: float
    lives_s: tuple[float, float]
    steady_lives_s: tuple[float, float]
    short_life_s: float
    short_s: float
    cold: int
    deployments: int = 2
    latency_s: float = 0.05
    goals: bool = True


FULL = Scale(
    policies=1000,
    sizes=(100, 1000, 10_000),
    issuers=50,
    hung_s=60.0,
    steady_s=120.0,
    lives_s=(600.0, 3600.0),
    steady_lives_s=(120.0, 4320.0),
    short_life_s=900.0,
    short_s=60.0,
    cold=11,
)
QUICK = Scale(
    policies=150,
    sizes=(50, 150, 500),
    issuers=10,
    hung_s=20.0,
    steady_s=15.0,
    lives_s=(60.0, 200.0),
    steady_lives_s=(30.0, 150.0),
    short_life_s=150.0,
    short_s=15.0,
    cold=3,
    goals=False,
)
