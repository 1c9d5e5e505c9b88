"""A Kubernetes control plane of its own: etcd and the API server, and the garbage collector where a test needs it.

There are no nodes, so no Pod ever runs; what is under test is the API, and programs that speak to it.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.parts import control_plane, kubeconfig
from tests.support.parts.api import Api, Json, Name, Resource
from tests.support.parts.kubernetes import Programs
from tests.support.parts.pki import KeyPair, Pki

SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts")

_COMMAND = timedelta(minutes=2)
_TOKEN_LIFE = timedelta(hours=1)


@dataclass(frozen=True)
class Cluster:
    """A running control plane, and the one user who may do everything.

    Attributes:
        identity: What the API server proves itself by; for whoever stands in its place.
    """

    url: str
    ca: Path
    directory: Path
    admin: Path
    api: Api
    programs: Programs
    identity: KeyPair

    def kubectl(self, *argv: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """Run kubectl, as admin unless told otherwise, and return what it printed.

        Raises:
            subprocess.CalledProcessError: It failed; the note carries what it said.
        """
        return self._run(self.programs.kubectl, kubeconfig or self.admin, argv, stdin)

    def apply(self, *manifests: Json) -> None:
        """Create objects of any kind, or make them so; the server refuses fields that it does not know."""
        self._apply("--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def apply_crds(self, path: Path) -> None:
        """Create the resource definitions in a file or directory and wait until the server serves them."""
        self._apply(f"--filename={path}")
        established = ("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        try:
            self.kubectl(*established)
        except subprocess.CalledProcessError:
            # NOTE: kubectl does not wait for a definition that has no conditions at all yet, it fails.
            self.kubectl(*established)

    def _apply(self, *argv: str, stdin: str = "") -> None:
        self.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", *argv, stdin=stdin)

    def helm(self, *argv: str) -> str:
        """Run Helm as admin and return what it printed."""
        return self._run(self.programs.helm, self.admin, argv, "")

    def token(self, account: Name, *, life: timedelta = _TOKEN_LIFE) -> str:
        """Return a token of a service account, from the API that also fills a Pod's volume."""
        manifest = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"namespace": account.namespace, "name": account.name},
            "spec": {"expirationSeconds": int(life.total_seconds())},
        }
        return str(self.api.create(SERVICE_ACCOUNTS, manifest, "token")["status"]["token"])

    def kubeconfig_of(self, account: Name) -> Path:
        """Return a kubeconfig with a token of a service account: the rights of the program that runs as it."""
        path = self.directory / "accounts" / account.namespace / account.name
        token = self.token(account)
        return kubeconfig.for_token(path, server=self.url, ca=self.ca, token=token, namespace=account.namespace)

    def _run(self, program: Path, kubeconfig: Path, argv: tuple[str, ...], stdin: str) -> str:
        command = (str(program), "--kubeconfig", str(kubeconfig), *argv)
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                cwd=self.directory,
                env={"HOME": str(self.directory)},
                timeout=_COMMAND.total_seconds(),
                check=True,
            )
        except subprocess.CalledProcessError as error:
            error.add_note(f"{error.stdout}{error.stderr}")
            raise
        return done.stdout


@contextmanager
def serving(programs: Programs, *, directory: Path, collecting: bool = False) -> Iterator[Cluster]:
    """Run an empty cluster; several may run side by side.

    Args:
        programs: What is run.
        directory: New; keys, data and logs go there.
        collecting: Also run the controllers, of which the garbage collector matters here: it deletes what is owned
            by something that is gone.
    """
    keys = Pki(directory / "pki")
    with ExitStack() as running_parts:
        store = running_parts.enter_context(control_plane.etcd(programs.etcd, directory=directory))
        url = running_parts.enter_context(
            control_plane.api_server(programs.api_server, store, keys, directory=directory, collecting=collecting)
        )
        admin = keys.admin()
        api = running_parts.enter_context(closing(Api(url, keys.ca, admin)))
        path = kubeconfig.for_certificate(directory / "admin.kubeconfig", server=url, ca=keys.ca, user=admin)
        if collecting:
            running_parts.enter_context(
                control_plane.controllers(programs.controller_manager, url, keys, directory=directory)
            )
        yield Cluster(url, keys.ca, directory, path, api, programs, keys.server)
