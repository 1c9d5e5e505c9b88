"""The filter of the gateway's data plane, which signs requests with what its configuration file holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from tests.support.parts.cache import Cache
from tests.support.parts.go_tool import build
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

_VERSION = "1.0.0"
_PACKAGE = "github.com/envoyproxy/ai-gateway/cmd/extproc"

# What would silently beat the credentials of the configuration file: the filter loads them through the AWS SDK's
# default chain, which looks at the environment first.
_AMBIENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
)


def executable(cache: Cache) -> Path:
    """Return the filter's program, built from the gateway's Go module on the first call."""
    return build(cache, "ext_proc", package=_PACKAGE, version=_VERSION)


@contextmanager
def serving(program: Path, configuration: Path, *, directory: Path) -> Iterator[int]:
    """Run the filter on a configuration file and yield the port of its gRPC service."""
    port, admin = free_port(), free_port()
    argv = (
        str(program),
        "-configPath", str(configuration),
        "-extProcAddr", f"127.0.0.1:{port}",
        "-adminPort", str(admin),
        "-logLevel", "info",
    )  # fmt: skip
    environment = {**dict.fromkeys(_AMBIENT, ""), "AWS_EC2_METADATA_DISABLED": "true"}
    # After SIGTERM it keeps serving for 15 s, for a rolling update's sake. Nobody is left to serve here.
    with running("ext_proc", *argv, directory=directory, env=environment, grace=timedelta(0)) as process:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{admin}/health"), within=timedelta(seconds=30))
        yield port
