"""The series of single policies, in Prometheus' text format.

Written here and not by ``prometheus_client``, which keeps four objects with a lock each for a policy and needs 0.4 s
to write those of 10 000; this takes a tenth of that. Source: Prometheus, "Exposition formats", text-based format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome import Outcome


class _Standing(NamedTuple):
    """What one policy's series say; ``labels`` is what stands between the braces of all of them."""

    provider: str
    labels: str
    expires_s: float | None
    renews_s: float | None
    ready: bool


class PolicyMetrics:
    """What the latest outcome of each policy said; written by its worker, read by who scrapes."""

    def __init__(self) -> None:
        # NOTE: single operations on a dict are atomic, so that neither worker nor scrape waits for the other.
        self._standings: dict[ObjectKey, _Standing] = {}

    def record(self, outcome: Outcome) -> None:
        """Bring a policy's series up to date; what is not known any more vanishes, as does a former provider."""
        known = self._standings.get(outcome.policy)
        labels = known.labels if known else ",".join(_label(*pair) for pair in outcome.policy._asdict().items())
        expires_at, renew_at = outcome.expires_at, outcome.renew_at
        self._standings[outcome.policy] = _Standing(
            outcome.provider,
            labels,
            expires_at.timestamp() if expires_at else None,
            renew_at.timestamp() if renew_at else None,
            outcome.action != "failed",
        )

    def forget(self, key: ObjectKey) -> None:
        """Remove the series of a policy that is gone."""
        self._standings.pop(key, None)

    def exposition(self) -> bytes:
        """Write all series, those of one metric together."""
        # A copy in one step: workers record outcomes while Prometheus reads, and one of ten thousand series must not
        # end the scrape.
        standings = list(self._standings.values())
        lines: list[str] = []
        for name, text, samples in (
            ("expiration_timestamp_seconds", "When the published credential expires.", _times(standings, "expires_s")),
            (
                "renewal_timestamp_seconds",
                "When the published credential is to be renewed.",
                _times(standings, "renews_s"),
            ),
            ("ready_status", "1 for the condition of the policy that holds.", _conditions(standings)),
        ):
            # HELP and TYPE once, before all samples of the metric (exposition format: one group for each).
            whole = f"credrotator_credential_{name}"
            lines += (f"# HELP {whole} {text}\n", f"# TYPE {whole} gauge\n")
            lines += (f"{whole}{{{labels}}} {value}\n" for labels, value in samples)
        return "".join(lines).encode()


def _times(standings: list[_Standing], field: Literal["expires_s", "renews_s"]) -> Iterator[tuple[str, object]]:
    for standing in standings:
        if (moment_s := getattr(standing, field)) is not None:
            yield f"{standing.labels},{_label('provider', standing.provider)}", moment_s


def _conditions(standings: list[_Standing]) -> Iterator[tuple[str, object]]:
    for standing in standings:
        yield f'{standing.labels},condition="True"', int(standing.ready)
        yield f'{standing.labels},condition="False"', int(not standing.ready)


def _label(name: str, value: str) -> str:
    # The three that the format escapes in label values; names of policies have none, providers' names neither, but the
    # format does not say who is asked.
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{escaped}"'
