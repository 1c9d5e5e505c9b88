"""``check --offline``: what manifests alone tell, and the formats in which a review of a change shows it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner, Result

from credrotator.cli.check_formats import Finding, github, junit, reading_findings, sarif
from credrotator.cli.main import cli
from credrotator.core.errors import UsageError
from tests.check.documents import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: one, namespace: team}
spec:
  type: AWSCredentials
  awsCredentials:
    region: us-east-1
    oidcExchangeToken:
      awsRoleArn: arn:aws:iam::123456789012:role/bedrock
      aud: sts.amazonaws.com
      oidc:
        provider: {issuer: "https://idp.example.com"}
        clientID: credrotator
        clientSecret: {name: oidc}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: oidc, namespace: team}
stringData: {client-secret: VALUE}
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody resolve a name or connect."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def _check(folder: Path, manifest: str, *options: str) -> Result:
    (folder / "policies.yaml").write_text(manifest, encoding="utf-8")
    arguments = ["check", "--offline", "-f", str(folder / "policies.yaml"), *options]
    return CliRunner().invoke(cli, arguments, standalone_mode=False)


def _policies(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["policies"]
    return found


def test_a_secret_elsewhere_is_no_error(tmp_path: Path) -> None:
    """Policies are kept without their Secrets: that one is not there is said, and the rest is checked."""
    result = _check(tmp_path, GOOD, "-o", "json")
    assert result.return_value == 0
    (policy,) = _policies(result)
    assert [(step["name"], step["result"]) for step in policy["steps"]] == [
        ("policy", "ok"),
        ("references", "skipped"),
        ("allowed", "ok"),
    ]
    assert policy["steps"][1]["detail"].endswith("there is no Secret team/oidc among the manifests")
    assert "SUBJECT-OF-THE-TOKEN" in json.dumps(policy["advice"]["awsTrustPolicy"])


WRONG = {
    "shape": (GOOD.replace("us-east-1", "us_east"), "InvalidPolicy"),
    "placeholder": (f"{GOOD}---\n{SECRET.replace('VALUE', 'changeme')}", "SecretPlaceholder"),
    "key missing": (f"{GOOD}---\n{SECRET.replace('client-secret', 'other')}", "SecretKeyMissing"),
    "http issuer": (GOOD.replace("https://idp", "http://idp"), "InsecureIssuer"),
    "another namespace": (GOOD.replace("{name: oidc}", "{name: oidc, namespace: other}"), "RefNotPermitted"),
    "endpoint": (
        GOOD.replace(
            '{issuer: "https://idp.example.com"}',
            '{issuer: "https://idp.example.com", tokenEndpoint: "http://idp.example.com/token"}',
        ),
        "InsecureIssuer",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case: str, tmp_path: Path) -> None:
    """What manifests show to be wrong is an error, with the reason that a rotation would give."""
    manifest, reason = WRONG[case]
    result = _check(tmp_path, manifest, "-o", "json")
    assert result.return_value == 1
    (policy,) = _policies(result)
    assert [step["error"]["reason"] for step in policy["steps"] if step["error"]] == [reason]
    assert policy["result"] == "failed"


def test_allowed_issuers_bind(tmp_path: Path) -> None:
    """The operator's list is checked as a rotation checks it."""
    result = _check(tmp_path, GOOD, "-o", "github", "--allowed-issuer", "https://other.example.com")
    assert result.return_value == 1
    assert "title=IssuerNotAllowed::team/one: issuer https://idp.example.com" in result.stdout


def test_a_cluster_is_not_asked() -> None:
    """Without manifests there is nothing to check offline."""
    result = CliRunner().invoke(cli, ["check", "--offline", "-A"], standalone_mode=False)
    assert isinstance(result.exception, UsageError)
    assert "name the manifests with -f" in str(result.exception)


class TestFormats:
    """SARIF, JUnit and GitHub's annotations name each finding's place."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Go where the manifests are, as CI does."""
        monkeypatch.chdir(tmp_path)
        two = GOOD.replace("name: one", "name: two").replace("us-east-1", "us_east").replace("123456789012", "1")
        (tmp_path / "p.yaml").write_text(f"{GOOD}---\n{two}---\nfoo: [\n", encoding="utf-8")
        return tmp_path

    def _run(self, output: str) -> Result:
        return CliRunner().invoke(cli, ["check", "--offline", "-f", "p.yaml", "-o", output], standalone_mode=False)

    def test_github(self, folder: Path) -> None:
        """A command for each field that is wrong, and for the document that is no YAML."""
        result = self._run("github")
        lines = result.stdout.splitlines()
        assert result.return_value == 1
        assert [line.split("::")[1] for line in lines] == [
            "error file=p.yaml,line=32,title=ManifestUnreadable",
            "error file=p.yaml,line=16,title=InvalidPolicy",
            "error file=p.yaml,line=16,title=InvalidPolicy",
        ]
        assert "spec.awsCredentials.region" in lines[1] + lines[2]

    def test_junit(self, folder: Path) -> None:
        """A case for each policy, with its failures; counts are those of the cases."""
        root = ET.fromstring(self._run("junit").stdout)  # noqa: S314 - our own
        (suite,) = root
        cases = {(case.get("classname"), case.get("name")): case.findall("failure") for case in suite}
        assert {name: len(failures) for name, failures in cases.items()} == {
            ("team", "one"): 0,
            ("team", "two"): 2,
            ("manifests", "p.yaml"): 1,
        }
        assert (suite.get("tests"), suite.get("failures")) == ("3", "2")

    def test_sarif(self, folder: Path) -> None:
        """Each result has a rule that is explained, and a place."""
        (run,) = json.loads(self._run("sarif").stdout)["runs"]
        rules = run["tool"]["driver"]["rules"]
        assert all(rule["help"]["text"] for rule in rules)
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            place = result["locations"][0]["physicalLocation"]
            assert place["artifactLocation"]["uri"] == "p.yaml"
            assert place["region"]["startLine"] in {16, 32}


BROKEN: dict[str, Callable[[Path], object]] = {
    "no object": lambda path: path.write_text("- a\n"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("case", BROKEN)
class TestNothingElse:
    """All manifests are broken: the report says so in its own format, and the check has failed."""

    @pytest.fixture
    def run(self, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
        """Return how a directory with nothing else is checked."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ci").mkdir()
        BROKEN[case](tmp_path / "ci" / "x.yaml")
        arguments = ["check", "--offline", "-f", "ci", "-o"]
        return lambda *more: CliRunner().invoke(cli, [*arguments, *more], standalone_mode=False)

    def test_for_a_review(self, run: Callable[..., Result]) -> None:
        """SARIF, JUnit and GitHub have one error with its place."""
        (line,) = run("github").stdout.splitlines()
        assert line.startswith("::error file=ci/x.yaml,line=1,title=ManifestUnreadable::")
        (suite,) = ET.fromstring(run("junit").stdout)  # noqa: S314 - our own
        assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
        (sarif_run,) = json.loads(run("sarif").stdout)["runs"]
        assert [result["ruleId"] for result in sarif_run["results"]] == ["ManifestUnreadable"]
        assert [run(output).return_value for output in ("github", "junit", "sarif")] == [1, 1, 1]

    def test_json(self, run: Callable[..., Result]) -> None:
        """By the schema, without policies."""
        result = run("json")
        found = json.loads(result.stdout)
        SCHEMA.validate(found)
        (problem,) = found["manifests"]
        assert (problem["level"], problem["reason"]) == ("error", "ManifestUnreadable")
        assert (problem["file"], problem["line"], found["policies"], result.return_value) == ("ci/x.yaml", 1, [], 1)

    @pytest.mark.parametrize("more", [[], ["-q"]])
    def test_table(self, run: Callable[..., Result], more: list[str]) -> None:
        """It is in the table, and not on standard error again."""
        result = run("table", *more)
        assert "  failed   ManifestUnreadable   ci/x.yaml:1: " in result.stdout
        assert (result.stderr, result.return_value) == ("", 1)

    def test_a_name(self, run: Callable[..., Result]) -> None:
        """A policy that is named and not there is a slip of the command line all the same."""
        assert isinstance(run("json", "team/one").exception, UsageError)


class TestDefinedTwice:
    """Two objects of one name that differ are warned of, with both places."""

    TWO = f"{GOOD}---\n{SECRET}---\n{SECRET.replace('VALUE', 'other')}"

    def test_formats(self, tmp_path: Path) -> None:
        """A warning in all formats, which fails nothing, and without the values."""
        for output, words in (
            ("github", "::warning file="),
            ("sarif", '"level": "warning"'),
            ("junit", "<system-out>Secret team/oidc: defined twice"),
            ("json", '"reason": "DefinedTwice"'),
            ("table", "  warning   DefinedTwice  "),
        ):
            result = _check(tmp_path, self.TWO, "-o", output)
            assert words in result.stdout
            file = f"{tmp_path}/policies.yaml"
            assert f"in {file}:16 and in {file}:21; the latter is used; remove one" in result.stdout
            assert "VALUE" not in result.output
            assert result.return_value == 0
        suite = ET.fromstring(_check(tmp_path, self.TWO, "-o", "junit").stdout)  # noqa: S314 - our own
        assert (suite.get("tests"), suite.get("failures")) == ("2", "0")
        (case,) = suite.iterfind(".//testcase[@classname='manifests']")
        assert case.get("name") == f"{tmp_path}/policies.yaml"

    def test_quiet(self, tmp_path: Path) -> None:
        """It is no failure."""
        assert _check(tmp_path, self.TWO, "-q").output == ""


def test_text_cannot_break_a_format() -> None:
    """Line ends, colons and control characters of a manifest stay text in all three."""
    nasty = Finding("error", "team/x", "A,b:c", "one\n::error::two % \x00\x1b <&", "a:b,c.yaml", 3)
    (line,) = github([nasty]).splitlines()
    assert line == "::error file=a%3Ab%2Cc.yaml,line=3,title=A%2Cb%3Ac::team/x: one%0A::error::two %25 \x00\x1b <&"
    assert json.loads(sarif([nasty]))["runs"][0]["results"][0]["message"]["text"].startswith("team/x: one\n")
    unread = Finding("error", "", "ManifestUnreadable", nasty.message)
    ET.fromstring(junit([], [unread]))  # noqa: S314 - our own


def test_places() -> None:
    """A problem's file and line are told from its text; one without them is kept whole."""
    texts = ["a/b.yaml:12: no", "a/b.yaml:12 items[3]: no", "cannot list Secrets: no"]
    assert [(each.file, each.line, each.message) for each in reading_findings(texts, ())] == [
        ("a/b.yaml", 12, "no"),
        ("a/b.yaml", 12, "items[3]: no"),
        ("", 1, "cannot list Secrets: no"),
    ]


def test_hook() -> None:
    """The hook for pre-commit runs what is tested here, over all manifests at once."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"].split() == ["credrotator", "check", "--offline"]
    assert hook["pass_filenames"] is False
