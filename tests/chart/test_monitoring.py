"""Alerts, runbooks and dashboard agree with each other and with the metrics that there are. Needs no promtool."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from credrotator.cli.main import cli
from tests.chart.monitoring import PREFIX, RUNBOOKS, alerts, dashboard, expressions, panels, runbooks, selectors
from tests.support.metric_names import existing

if TYPE_CHECKING:
    from collections.abc import Iterator

ALERTS = [
    "ExpiresSoon",
    "RotationFailing",
    "Stalled",
    "NotDelivered",
    "ClockSkew",
    "NoLeader",
    "WatchStale",
    "DeliveryBehind",
    "DeliverySlow",
    "ExpiryBudget",
]
OF_THE_SCRAPE = {"job", "instance"}
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def queried() -> dict[str, set[str]]:
    """Return the labels of every series that a scrape brings, by its name in queries."""
    found: dict[str, set[str]] = {name: set() for name in PROCESS}
    for name, (kind, labels) in existing().items():
        if kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_count": labels, f"{name}_sum": labels}
        else:
            found[name] = labels
    return found


def check(expression: str, known: dict[str, set[str]]) -> None:
    """See that all that an expression selects is there, with these labels."""
    for name, labels in selectors(expression):
        assert name in known, f"there is no {name}"
        assert labels <= known[name] | OF_THE_SCRAPE, f"{name} has no label {labels - known[name]}"


class TestAlerts:
    """The rule file."""

    def test_all_are_there(self) -> None:
        """These ten; what they are called elsewhere says whose they are."""
        assert list(alerts()) == ALERTS
        assert all(rule["alert"].startswith(PREFIX) for rule in alerts().values())

    @pytest.mark.parametrize("name", ALERTS)
    def test_speaks_for_itself(self, name: str) -> None:
        """Severity, summary, description, a wait against flapping, and the address of its own runbook."""
        rule = alerts()[name]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["for"]
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"

    @pytest.mark.parametrize("name", ALERTS)
    def test_asks_for_what_there_is(self, name: str) -> None:
        """Metrics and labels exist, and each is selected by the job, which is what the chart replaces."""
        expression = alerts()[name]["expr"]
        check(expression, queried())
        assert list(selectors(expression))
        assert expression.count('job="credrotator"') == len(list(selectors(expression)))


class TestRunbooks:
    """The pages that alerts lead to."""

    def test_one_for_each_alert(self) -> None:
        """No alert without a page, no page without an alert, all in the list."""
        assert runbooks().keys() == alerts().keys()
        index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
        listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", index, re.MULTILINE)
        assert listed == [(name, name, rule["labels"]["severity"]) for name, rule in alerts().items()]

    @pytest.mark.parametrize("name", ALERTS)
    def test_says_what_to_do(self, name: str) -> None:
        """What it means, how to see more, what to do; the severity is the alert's."""
        page = runbooks()[name]
        assert re.findall(r"^#+ (.+)$", page, re.MULTILINE) == [
            name, "What it means", "How to see more", "What to do",
        ]  # fmt: skip
        assert f"**Severity: {alerts()[name]['labels']['severity']}.**" in page

    @pytest.mark.parametrize("name", ALERTS)
    def test_names_what_there_is(self, name: str) -> None:
        """Metrics exist, and so do the pages that are linked."""
        page = runbooks()[name]
        check(page, {**queried(), **{metric: labels for metric, (_, labels) in existing().items()}})
        for target in re.findall(r"\]\(([\w./-]+)\)", page):
            assert (RUNBOOKS / target).exists(), target

    @pytest.mark.parametrize("name", ALERTS)
    def test_commands_exist(self, name: str) -> None:
        """Whatever is to be typed is a command of ours with options that it has, or one of kubectl's."""
        for line in commands(runbooks()[name]):
            words = shlex.split(line.rpartition(" -- ")[2])
            if words[0] == "credrotator":
                command = cli.get_command(click.Context(cli), words[1])
                assert command, line
                known = {option for parameter in command.params for option in parameter.opts}
                assert {word for word in words[2:] if word.startswith("-")} <= known, line
            else:
                assert words[0] in {"kubectl", "date"}, line


def commands(page: str) -> Iterator[str]:
    """Yield the lines of a page's code blocks."""
    for block in re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


class TestDashboard:
    """The dashboard, before it is shown."""

    @pytest.mark.parametrize("expression", [expression for _, expression in expressions()])
    def test_asks_for_what_there_is(self, expression: str) -> None:
        """Metrics and labels exist; the job that is chosen counts for each of them."""
        check(expression, queried())
        assert expression.count('job=~"$job"') == len(list(selectors(expression))) > 0

    def test_panels(self) -> None:
        """Each has a number, a title, a sentence and a unit of its own, and asks the data source that is chosen."""
        numbers = [panel["id"] for panel in dashboard()["panels"]]
        assert len(numbers) == len(set(numbers))
        for panel in panels():
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            for asking in (panel, *panel["targets"]):
                assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])

    def test_nothing_overlaps(self) -> None:
        """Panels fit the width, and none lies on another."""
        places = [panel["gridPos"] for panel in dashboard()["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, two in itertools.combinations(places, 2):
            beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
            below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
            assert beside or below, (one, two)

    def test_every_metric_is_shown_or_alerted_on(self) -> None:
        """What is measured in a cluster is of use to somebody; the chart has no daemon over a directory."""
        whole = [expression for _, expression in expressions()] + [rule["expr"] for rule in alerts().values()]
        used = {name for expression in whole for name, _ in selectors(expression)}
        unused = {name for name in existing() if not used & {name, f"{name}_bucket"}}
        assert unused == {"credrotator_build_info", "credrotator_hook_runs_total", "credrotator_manifests_unreadable"}
