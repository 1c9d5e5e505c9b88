"""What ``check`` prints for machines that review changes: SARIF, JUnit's XML, and GitHub's annotations.

Owns the three formats, and from which of a report's lines they are made. Each finding has the place of its policy in
the file, where the manifests say it.
Source: SARIF 2.1.0 (OASIS), JUnit's XML as CI servers read it, GitHub Actions' workflow commands.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict
from xml.etree import ElementTree as ET

from credrotator import __version__
from credrotator.core.model import InvalidPolicy
from credrotator.diagnosis.reasons import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from credrotator.core.errors import Forbidden
    from credrotator.core.model import ObjectKey, Policy
    from credrotator.diagnosis.preflight import Report
    from credrotator.kube.access import Right

FORMATS = ("sarif", "junit", "github")
WARNING = "Warning"
"""The rule of findings that have no reason of their own."""
MANIFEST, TWICE = "ManifestUnreadable", "DefinedTwice"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_Remark = tuple[Literal["error", "warning"], str, str]
"""Level, rule and message."""
# The shortest file name that is followed by a line, since a path may have colons; DOTALL, since a message may have line
# ends.
_PLACE = re.compile(r"\A(?P<file>.+?):(?P<line>[1-9][0-9]*)(?P<rest>(?::| ).*)?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a reviewer has to see.

    Attributes:
        level: An error fails the check.
        policy: Whose it is; empty for a manifest that could not be read, or is doubtful, and for a right.
        rule: The reason, or what stands for one.
        message: One sentence, with what to do.
        file: Where it stands; empty where that is not known.
        line: From 1.
    """

    level: Literal["error", "warning"]
    policy: str
    rule: str
    message: str
    file: str = ""
    line: int = 1


def reading_findings(problems: Iterable[str], warnings: Iterable[str]) -> list[Finding]:
    """Return what the reading found wrong or odd."""
    return [
        *(_placed("error", MANIFEST, problem) for problem in problems),
        *(_placed("warning", TWICE, warning) for warning in warnings),
    ]


def findings(reports: Iterable[Report], policies: Mapping[ObjectKey, Policy | InvalidPolicy]) -> list[Finding]:
    """Return what the reports found wrong or odd, in their order."""
    findings: list[Finding] = []
    for report in reports:
        policy = policies[report.policy]
        remarks = _problems(policy) if isinstance(policy, InvalidPolicy) else _remarks(report)
        findings += [
            Finding(level, str(report.policy), rule, text, *_place(policy.origin)) for level, rule, text in remarks
        ]
    return findings


def refusal(error: Forbidden, rights: Iterable[Right]) -> list[Finding]:
    """Return what there is to say where the account may not even read the policies: the rights that it lacks."""
    lacking = [
        Finding("error", "", "RightsMissing" if right.missing else "RightsUnknown", f"{right.what}: {right.lack}")
        for right in rights
        if right.lack
    ]
    return [Finding("error", "", error.reason, error.message), *lacking]


def _problems(policy: InvalidPolicy) -> Iterator[_Remark]:
    """Make a finding of each field, as a review shows them one by one."""
    for problem in policy.problems:
        yield "error", "InvalidPolicy", str(problem)


def _remarks(report: Report) -> Iterator[_Remark]:
    for step in report.steps:
        if step.error and step.result == "failed":
            yield "error", step.error.reason, f"{step.error.message}; {step.error.hint}"
    for warning in report.warnings:
        yield "warning", WARNING, warning


def _placed(level: Literal["error", "warning"], rule: str, text: str) -> Finding:
    place = _PLACE.match(text)
    if place is None or place["rest"] is None:
        # A directory that cannot be listed, or standard input: there is no line to show it at.
        return Finding(level, "", rule, text)
    return Finding(level, "", rule, place["rest"].lstrip(": "), place["file"], int(place["line"]))


def _place(origin: str) -> tuple[str, int]:
    place = _PLACE.match(origin)
    return (place["file"], int(place["line"])) if place else ("", 1)


def github(findings: Iterable[Finding]) -> str:
    """Return workflow commands, which GitHub shows beside the lines of a change."""
    return "".join(f"::{each.level} {_properties(each)}::{_data(_whole(each))}\n" for each in findings)


def _properties(finding: Finding) -> str:
    values = {"file": finding.file, "line": str(finding.line), "title": finding.rule}
    # Without a file GitHub shows it in the summary of the run; an empty one would be no place either.
    if not finding.file:
        del values["file"], values["line"]
    return ",".join(f"{name}={_data(value, ',:')}" for name, value in values.items())


def _data(text: str, more: str = "") -> str:
    """Escape what would end a command; in properties, what would end one of them."""
    return "".join(f"%{ord(char):02X}" if char in "%\r\n" or char in more else char for char in text)


def _whole(finding: Finding) -> str:
    return f"{finding.policy}: {finding.message}" if finding.policy else finding.message


def junit(reports: Sequence[Report], findings: Sequence[Finding]) -> str:
    """Return one test case for each policy, and for each manifest or right that could not be had, or is doubtful."""
    # What cannot be read has no policy, and would be missing from a report that counts policies only.
    unread = [each for each in findings if not each.policy]
    failures = sum(report.failed for report in reports) + sum(each.level == "error" for each in unread)
    counts = {"tests": str(len(reports) + len(unread)), "failures": str(failures)}
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": "credrotator check", **counts})
    for report in reports:
        attributes = {"classname": report.policy.namespace, "name": report.policy.name}
        own = [each for each in findings if each.policy == str(report.policy)]
        _case(suite, attributes, own)
    for each in unread:
        manifest = {"classname": "manifests", "name": each.file or "manifest"}
        right = {"classname": "cluster", "name": each.rule}
        _case(suite, manifest if each.rule in {MANIFEST, TWICE} else right, [each])
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, attributes: Mapping[str, str], findings: Sequence[Finding]) -> None:
    place = next(({"file": each.file, "line": str(each.line)} for each in findings if each.file), {})
    # ``file`` and ``line`` are not in JUnit's own schema; GitLab reads them, and others pass them over.
    case = ET.SubElement(suite, "testcase", {**attributes, **place})
    for each in findings:
        if each.level == "error":
            failure = ET.SubElement(case, "failure", {"type": each.rule, "message": _xml(each.message)})
            failure.text = _xml(f"{each.file}:{each.line}: {each.message}" if each.file else each.message)
    warnings = [_xml(each.message) for each in findings if each.level == "warning"]
    if warnings:
        ET.SubElement(case, "system-out").text = "\n".join(warnings)


def _xml(text: str) -> str:
    """Leave out what XML 1.0 has no way to write."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


class _Text(TypedDict):
    text: str


class _Rule(TypedDict):
    """A reportingDescriptor (SARIF 2.1.0 §3.49)."""

    id: str
    shortDescription: NotRequired[_Text]
    help: NotRequired[_Text]


class _File(TypedDict):
    uri: str


class _Region(TypedDict):
    startLine: int


class _PhysicalLocation(TypedDict):
    artifactLocation: _File
    region: _Region


class _LogicalLocation(TypedDict):
    fullyQualifiedName: str
    kind: str


class _Location(TypedDict, total=False):
    """Where a result is (SARIF 2.1.0 §3.28)."""

    physicalLocation: _PhysicalLocation
    logicalLocations: list[_LogicalLocation]


class _Result(TypedDict):
    """A result (SARIF 2.1.0 §3.27)."""

    ruleId: str
    ruleIndex: int
    level: Literal["error", "warning"]
    message: _Text
    locations: NotRequired[list[_Location]]


def sarif(findings: Sequence[Finding]) -> str:
    """Return a SARIF log of one run; each reason is a rule, with its cause and what to do."""
    rules = list(dict.fromkeys(each.rule for each in findings))
    driver = {"name": "credrotator", "version": __version__, "rules": [_rule(rule) for rule in rules]}
    run = {"tool": {"driver": driver}, "results": [_result(each, rules.index(each.rule)) for each in findings]}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: str) -> _Rule:
    known = explain(rule)
    if known is None:
        return {"id": rule}
    return {"id": rule, "shortDescription": {"text": known.cause}, "help": {"text": known.cure}}


def _result(finding: Finding, index: int) -> _Result:
    result: _Result = {
        "ruleId": finding.rule,
        # Optional (SARIF 2.1.0 §3.27.6); it saves readers the search by ruleId.
        "ruleIndex": index,
        "level": finding.level,
        "message": {"text": _whole(finding)},
    }
    location: _Location = {}
    if finding.file:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": finding.file},
            "region": {"startLine": finding.line},
        }
    if finding.policy:
        # Beside the place, or alone where there is none: SARIF has no finding that is nowhere.
        location["logicalLocations"] = [{"fullyQualifiedName": finding.policy, "kind": "resource"}]
    if location:
        result["locations"] = [location]
    return result
