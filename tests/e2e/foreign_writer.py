"""Somebody who writes credentials into Secrets beside the gateway's controller: a rotator without an exchange."""

import secrets
import time
from datetime import UTC, datetime, timedelta

from tests.e2e.gateway_site import Destination
from tests.support.cluster_policies import NAMESPACE, SECRETS, secret
from tests.support.parts.api import Name

_EXPIRATION = "rotators/expiration-time"
_ISSUED = "credrotator.io/issued-at"
_PARKED = timedelta(minutes=10)
_POLL_S = 0.1


class Writer:
    """Writes, touches, creates and deletes Secrets. What it writes are credentials in their form only."""

    def __init__(self, site: Destination) -> None:
        self._site = site
        self._api = site.cluster.api

    def park(self, policy: str) -> None:
        """Create the Secret of a policy to come, so fresh that the controller's own rotator leaves it alone."""
        annotations = {_EXPIRATION: _in(timedelta(hours=1))}
        self._create(f"ai-eg-bsp-{policy}", _data(policy, "parked"), annotations)

    def provide(self, name: str) -> None:
        """Create the Secret that a policy names."""
        self._create(name, _data(name, "first"), {})

    def rewrite(self, name: str) -> str:
        """Write a new credential into a Secret and return what to look for."""
        credential = secrets.token_hex(8)
        at = Name(NAMESPACE, name)
        self._api.patch(SECRETS, at, {"stringData": _data(name.removeprefix("ai-eg-bsp-"), credential)})
        return credential

    def touch(self, name: str) -> None:
        """Change nothing but an annotation of a Secret."""
        annotation = {"metadata": {"annotations": {"touched": secrets.token_hex(4)}}}
        self._api.patch(SECRETS, Name(NAMESPACE, name), annotation)

    def age(self, policy: str, left: timedelta) -> None:
        """Write the notes of a policy's Secret as if its credential had been issued an hour ago and ended soon."""
        notes = {_EXPIRATION: _in(left), _ISSUED: _in(-timedelta(hours=1))}
        self._api.patch(SECRETS, Name(NAMESPACE, f"ai-eg-bsp-{policy}"), {"metadata": {"annotations": notes}})

    def wait_until_parked(self, policy: str, *, within: timedelta) -> bool:
        """Tell whether the expiry that the gateway reads is put off, far beyond the true one, in that time."""
        give_up = datetime.now(UTC) + within
        while datetime.now(UTC) < give_up:
            notes = self._api.get(SECRETS, Name(NAMESPACE, f"ai-eg-bsp-{policy}"))["metadata"]["annotations"]
            if datetime.fromisoformat(notes[_EXPIRATION]) > datetime.now(UTC) + _PARKED:
                return True
            time.sleep(_POLL_S)
        return False

    def hang_a_bell(self, policy: str) -> None:
        """Create the empty Secret that bears the name of a policy."""
        self._create(policy, {}, {})

    def come_and_go(self, policy: str) -> None:
        """Create a Secret that the policy owns, and delete it."""
        name = f"{policy}-{secrets.token_hex(4)}"
        self._api.create(SECRETS, secret(name, {}, owner=self._site.policy(policy)))
        self._api.delete(SECRETS, Name(NAMESPACE, name))

    def _create(self, name: str, data: dict[str, str], annotations: dict[str, str]) -> None:
        self._api.create(SECRETS, secret(name, data, annotations=annotations))


def _data(policy: str, credential: str) -> dict[str, str]:
    if policy.startswith("azure"):
        return {"azureAccessToken": credential}
    if policy.startswith("key"):
        return {"apiKey": credential}
    return {"credentials": f"[default]\naws_access_key_id = {credential}\naws_secret_access_key = secret\n"}


def _in(delay: timedelta) -> str:
    return (datetime.now(UTC) + delay).isoformat(timespec="seconds")
