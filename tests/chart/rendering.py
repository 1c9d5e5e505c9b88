"""Helm, run on the chart; what it renders, as objects."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.chart.reference import CHART
from tests.support.parts.cache import Cache, default_root
from tests.support.parts.kubernetes import Programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMESPACE = "credrotator-system"
NAME = "eu-credrotator"
# A Helm that was not built by its makers takes the cluster for a very old one, unless it is told.
COMMON = ("--namespace", NAMESPACE, "--kube-version", "1.31.0")


class Refused(Exception):
    """Helm refused; the message is its own."""


class UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, of which YAML parsers silently keep one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """See SafeLoader."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    objects: tuple[dict[str, Any], ...]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the only object of a kind."""
        (found,) = self.all(kind)
        return found

    def kinds(self) -> list[str]:
        """Return the kinds of all objects, in order."""
        return sorted(found["kind"] for found in self.objects)

    def template(self) -> dict[str, Any]:
        """Return the pod template, of the Deployment or of the CronJob."""
        template: dict[str, Any]
        if jobs := self.all("CronJob"):
            template = jobs[0]["spec"]["jobTemplate"]["spec"]["template"]
        else:
            template = self.one("Deployment")["spec"]["template"]
        return template

    def container(self) -> dict[str, Any]:
        """Return the only container."""
        (container,) = self.template()["spec"]["containers"]
        found: dict[str, Any] = container
        return found

    def environment(self) -> dict[str, Any]:
        """Return the container's variables that have a value."""
        return {item["name"]: item.get("value") for item in self.container().get("env", [])}

    def rights(self, kind: str, namespace: str | None = None) -> dict[str, list[str]]:
        """Return the verbs of one Role or ClusterRole by resource (and names), as people write them."""
        (role,) = (found for found in self.all(kind) if found["metadata"].get("namespace") == namespace)
        return dict(sorted(_rights(role)))


def _rights(role: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    merged: dict[str, list[str]] = {}
    for rule in role["rules"]:
        names = f" {','.join(rule['resourceNames'])}" if "resourceNames" in rule else ""
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                merged.setdefault(f"{resource}{'.' if group else ''}{group}{names}", []).extend(rule["verbs"])
    yield from merged.items()


@dataclass(frozen=True)
class Helm:
    """Helm as a program."""

    program: Path
    directory: Path

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Run a command of Helm on the chart, with values over the defaults.

        Raises:
            Refused: It ended with an error.
        """
        file = self.directory / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values or {})))
        command = [str(self.program), *arguments, "--values", str(file), *COMMON]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    def render(self, values: Mapping[str, Any] | None = None) -> Rendered:
        """Render the chart."""
        text = self.run("template", "eu", str(CHART), values=values)
        loaded = yaml.load_all(text, UniqueKeys)
        return Rendered(tuple(found for found in loaded if found))


def find(directory: Path) -> Helm:
    """Return the Helm of this machine, else the one of the real parts, which is built where it is missing."""
    named = shutil.which("helm")
    return Helm(Path(named) if named else Programs(Cache(default_root())).helm, directory)
