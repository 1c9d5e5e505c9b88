"""What a template sees: Secrets by their names, credentials by their policies, and some filters.

Owns the texts about what is not there, which name what is. Values are secrets, so no text holds any (``masked``).
"""

from __future__ import annotations

import base64
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from credrotator.core.secretdata import read_time, show_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from credrotator.core.model import ObjectKey
    from credrotator.core.published_credential import PublishedCredential
    from credrotator.core.sensitive import Sensitive


# Masked, "us-east-1" would turn half of an error's text into stars.
PLACES = {"region", "project"}
"""Fields that are no secrets: short words that may stand anywhere in a text."""


class Content(NamedTuple):
    """What is published: the values of each Secret by its name, and the credentials.

    ``awaited``: policies that have no credential yet, and the fields that it will have.
    """

    secrets: Mapping[str, Mapping[str, Sensitive]]
    credentials: Iterable[PublishedCredential] = ()
    awaited: Mapping[ObjectKey, Collection[str]] = {}


class Named(dict[str, Any]):
    """A mapping of a template that can say what it is, and what is in it."""

    def __init__(self, what: str, entry: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._what = what
        self._entry = entry

    def lacks(self, name: object) -> str:
        """Say that a name is not in it, and which ones are."""
        if self._entry == "key":
            return f"{self._what} has no key {name}; it has {', '.join(sorted(self)) or 'none'}"
        there = "" if self._entry == "Secret" else f"; there are {', '.join(sorted(self)) or 'none'}"
        return f"there is no {self._entry} {name}{there}"


class Values:
    """Everything that one rendering sees.

    Args:
        content: What is published.
        policy: The only policy that the template is for; None: all.
    """

    def __init__(self, content: Content, policy: ObjectKey | None = None) -> None:
        self._texts = set(_texts(content))
        self._ambiguous = ""
        self._awaited = {str(key): fields for key, fields in content.awaited.items() if policy in {None, key}}
        self.secrets = Named("", "Secret", {name: _secret(name, data) for name, data in content.secrets.items()})
        chosen = [entry for entry in content.credentials if policy in {None, entry.policy}]
        seen = {str(entry.policy): _credential(entry) for entry in sorted(chosen, key=lambda entry: entry.policy)}
        self.credentials = Named("", "credential of policy", seen)

    @property
    def variables(self) -> Mapping[str, Any]:
        """Return the names that a template may use."""
        return {"secrets": self.secrets, "credentials": self.credentials, "only": self.only}

    def only(self, field: str | None = None) -> Named:
        """Return the only credential, or the only one with a field.

        Raises:
            ValueError: There is none, or more than one.
        """
        matching: list[Named] = [entry for entry in self.credentials.values() if field is None or field in entry]
        # Counted among them, or the file would have the credential that happens to be published first.
        awaited = [name for name, fields in self._awaited.items() if field is None or field in fields]
        if len(matching) == 1 and not awaited:
            return matching[0]
        named = sorted([*(entry["policy"] for entry in matching), *awaited])
        if len(named) == 1:
            raise ValueError(f"{named[0]} has no credential yet")
        self._ambiguous = named[0] if named else ""
        of_what = f" with {field}" if field else ""
        raise ValueError(f"it is for one credential{of_what}, and there are: {', '.join(named) or 'none'}")

    @property
    def advice(self) -> str:
        """Say what to do after an error."""
        if self._ambiguous:
            return f"choose one policy, for a preset as in preset:NAME@{self._ambiguous}:DST"
        there = ", ".join(sorted(self.secrets)) or "none"
        return f'Secrets that are there: {there}; test for others with {{% if "…" in secrets %}}'

    def masked(self, text: str) -> str:
        """Hide values that an error quotes, such as one that was used as the name of a filter."""
        for value in sorted(self._texts, key=len, reverse=True):
            text = text.replace(value, "***").replace(repr(value)[1:-1], "***")
        return text


def _texts(content: Content) -> Iterable[str]:
    for data in content.secrets.values():
        yield from (value.reveal() for value in data.values() if value)
    for credential in content.credentials:
        yield from (value.reveal() for name, value in credential.fields.items() if value and name not in PLACES)


def _secret(name: str, data: Mapping[str, Sensitive]) -> Named:
    return Named(f"Secret {name}", "key", {key: value.reveal() for key, value in data.items()})


def _credential(published: PublishedCredential) -> Named:
    environment = {name: value.reveal() for name, value in published.environment.items()}
    values = {
        **{name: value.reveal() for name, value in published.fields.items()},
        "environment": Named("the environment", "key", environment),
        "expires_at": show_time(published.expires_at),
        "policy": str(published.policy),
        "provider": published.provider,
        "secret": str(published.secret),
    }
    if published.issued_at:
        values["issued_at"] = show_time(published.issued_at)
    return Named(f"the credential of {published.policy}", "key", values)


class _Dumper(yaml.SafeDumper):
    """YAML of what templates hold, with no aliases."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)
_Dumper.add_multi_representer(str, lambda dumper, text: dumper.represent_str(str(text)))


def _to_yaml(value: Any) -> str:
    # One line, however long: a wrapped token in a block of YAML has a blank in it. "...": PyYAML ends bare scalars like
    # this.
    dumped = str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=2**31, allow_unicode=True))
    return dumped.removesuffix("...\n").rstrip("\n")


def _to_base64(value: Any) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else str(value).encode()).decode()


def _to_unix_time(value: Any) -> int:
    moment = read_time(str(value))
    if moment is None:
        raise ValueError("unixtime is for expires_at and issued_at")
    return int(moment.timestamp())


FILTERS: Mapping[str, Callable[[Any], Any]] = {
    "b64encode": _to_base64,
    "quote": lambda value: shlex.quote(str(value)),
    "toyaml": _to_yaml,
    "unixtime": _to_unix_time,
}
"""Beside Jinja's own, of which ``tojson`` is one."""
