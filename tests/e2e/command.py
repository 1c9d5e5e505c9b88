"""credrotator as a person runs it: the command line in, JSON and files out."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema

from tests.e2e.published import Published

FILTER_TEMPLATE = Path(__file__).parent / "config" / "filter.yaml.j2"
_SCHEMAS = Path(__file__).parents[2] / "docs"
_LIMIT = timedelta(seconds=60)


@dataclass(frozen=True)
class Outcome:
    """How one `rotate` or `check` ended; the latter has no results to look up here."""

    exit_code: int
    document: dict[str, Any]
    stderr: str

    def result(self, policy: str) -> dict[str, Any]:
        """Return the result of one policy of the namespace `default`."""
        (result,) = [one for one in self.document["results"] if one["policy"] == f"default/{policy}"]
        return dict(result)

    def error(self, policy: str) -> dict[str, str]:
        """Return the error of a policy that failed."""
        result = self.result(policy)
        assert result["action"] == "failed", result
        return dict(result["error"])


@dataclass(frozen=True)
class Credrotator:
    """The command with the settings that the real parts ask for, and a directory of its own to publish in."""

    directory: Path
    environment: Mapping[str, str]
    options: Sequence[str] = ()
    manifests: Path = field(init=False)
    published: Published = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "manifests", self.directory / "manifests.yaml")
        object.__setattr__(self, "published", Published(self.directory / "out"))

    @property
    def filter_file(self) -> Path:
        """The configuration of ext_proc, rendered after each publish."""
        return self.directory / "filter.yaml"

    def rotate(self, *options: str, source: Path | None = None) -> Outcome:
        """Run one pass over the manifests, or over another source of them; its JSON must be as documented."""
        return self._run("rotate", source or self.manifests, options)

    def check(self, *options: str) -> Outcome:
        """Test every step of the manifests' exchanges; its JSON must be as documented."""
        return self._run("check", self.manifests, options)

    def _run(self, command: str, source: Path, options: Sequence[str]) -> Outcome:
        argv = (
            sys.executable, "-m", "credrotator", command,
            "-f", str(source),
            "--out", str(self.published.directory),
            "--allowed-issuer", "http://127.0.0.1:*",
            "--allowed-issuer", "http://127.0.0.1:*/*",
            "-o", "json",
            *self.options,
            *options,
        )  # fmt: skip
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=_LIMIT.total_seconds(),
            check=False,
        )
        assert done.stdout, done.stderr
        document = json.loads(done.stdout)
        jsonschema.validate(document, json.loads((_SCHEMAS / f"{command}.schema.json").read_text()))
        return Outcome(done.returncode, document, done.stderr)

    def rotate_for_filter(self, *options: str) -> Outcome:
        """Run one pass that must succeed, and render the configuration of ext_proc."""
        outcome = self.rotate("--template", f"{FILTER_TEMPLATE}:{self.filter_file}", *options)
        assert outcome.exit_code == 0, outcome
        return outcome

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("CREDROTATOR_")}
        return {**ours, **self.environment}
