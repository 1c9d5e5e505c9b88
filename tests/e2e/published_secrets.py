"""Which credentials have stood in the Secrets of a cluster, and since when each."""

import base64
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.e2e.published import AwsCredential, token_id
from tests.support.cluster_policies import NAMESPACE, SECRETS
from tests.support.parts.api import Api
from tests.support.parts.watching import Seen, watching

# What stands in the place of a credential when a Secret is deleted.
_GONE = ("", "none")
_TOKEN_KEYS = ("azureAccessToken", "gcpAccessToken", "apiKey")


@dataclass(frozen=True)
class Publication:
    """One credential in one Secret.

    Attributes:
        text: The part of it that stands in the filter's configuration as it is: an access key id, or a token.
        credential: A name for it that is safe to print, and that the upstream calls it by.
        at: When the watch told of it.
    """

    text: str
    credential: str
    at: datetime


class PublishedSecrets:
    """The credentials of every Secret in the order of their publishing; safe to read while more come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[str, list[Publication]] = defaultdict(list)
        self._touched: dict[str, datetime] = {}

    def heed(self, seen: Seen) -> None:
        """Take note of a version of a Secret, if it holds another credential than before, or is gone."""
        found = _GONE if seen.kind == "DELETED" else _credential(seen.object.get("data") or {})
        with self._changed:
            self._touched[seen.name] = seen.at
            held = self._held[seen.name]
            if found and (not held or held[-1].text != found[0]):
                held.append(Publication(*found, seen.at))
                self._changed.notify_all()

    def touched(self, secret: str) -> datetime | None:
        """Return when a Secret was last written, whatever is in it."""
        with self._changed:
            return self._touched.get(secret)

    def of(self, secret: str) -> Sequence[Publication]:
        with self._changed:
            return list(self._held[secret])

    def wait(self, secret: str, number: int, *, within: timedelta) -> Publication | None:
        """Return the credential of that number in a Secret, the first being 0, or None if it does not come in time."""
        with self._changed:
            held = self._held[secret]
            self._changed.wait_for(lambda: len(held) > number, within.total_seconds())
            return held[number] if len(held) > number else None


@contextmanager
def following(api: Api) -> Iterator[PublishedSecrets]:
    """Follow the Secrets of the policies' namespace until the block ends."""
    published = PublishedSecrets()
    with watching(api, SECRETS, NAMESPACE, published.heed):
        yield published


def _credential(data: Mapping[str, str]) -> tuple[str, str] | None:
    if file := data.get("credentials"):
        key_id = AwsCredential.parse(base64.b64decode(file).decode()).key_id
        return key_id, key_id
    for key in _TOKEN_KEYS:
        if token := data.get(key):
            text = base64.b64decode(token).decode()
            return text, token_id(text)
    return None
