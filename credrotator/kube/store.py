"""Secrets on the API server: one write carries data and annotations, and names the version that it replaces.

A SecretStore. Owns what else a Secret of ours holds (labels, the owner reference) and the rule that a foreign Secret
is never touched. Must not decide what is published. Source: the gateway's ``rotators``; reliability.md I3, 26-28, 40.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from credrotator.core.errors import Conflict, Denied, printable
from credrotator.core.model import ObjectKey, Owner
from credrotator.core.secret_document import Ownership, SecretDocument, StoredSecret
from credrotator.core.secretdata import CONTENT, EXPIRY, FINGERPRINT, POLICY, RECORDS
from credrotator.core.sensitive import Sensitive
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import NOT_FOUND
from credrotator.kube.write_budget import WriteBudget
from credrotator.policies.annotations import ASKS, PREFIX
from credrotator.policies.asking import OPAQUE, asks
from credrotator.policies.schema import GROUP, KIND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credrotator.kube.client.api_objects import Json, OwnerReference

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "credrotator"
LABELS = {MANAGED_BY: MANAGER}
SELECTOR = f"{MANAGED_BY}={MANAGER}"
ASKING = f"{ASKS}=true"
"""Of Secrets that ask for themselves."""
UNKNOWN_OUTCOME = 500
"""From here on, and without any answer, a write may have happened all the same."""


class ClusterStore:
    """Secrets of one cluster; safe to share between threads."""

    def __init__(self, api: KubeApi, budget: WriteBudget | None = None) -> None:
        self._api = api
        self._budget = budget or WriteBudget()

    def read(self, key: ObjectKey) -> StoredSecret | None:
        """See ``ports.SecretStore``; the version is the resourceVersion, and what it is of goes with it."""
        secret = self._get(key)
        if secret is None:
            return None
        stored = stored_secret(secret)
        return replace(stored, version=_VersionRead(stored.version, secret))

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        """See ``ports.SecretStore``.

        Raises:
            Denied: SecretNotOurs or ForeignOwner: the Secret is somebody else's.
            Transient: ContestedWrite: somebody else changes it back each time.
        """
        # What others have put into the metadata has to go along.
        present = None if expected is None else self._present(document.key, expected)
        # The decision was made on another state. To write now would replace what nobody has looked at.
        if present is not None and present["metadata"]["resourceVersion"] != expected:
            raise Conflict(f"{document.key} was changed meanwhile")
        if present is None and (expected is not None or _asks_itself(document)):
            raise Conflict(f"{document.key} was deleted meanwhile")
        if present is not None:
            refuse_foreign(present, document)
        # After the checks, so that a conflict is told as one, and before the write: two controllers that put their own
        # back would write for ever, each faster than people can see.
        self._budget.check(document.key, present, MANAGER)
        try:
            self._write(document, present)
        except ApiError as error:
            # A namespace that is not there is a 404 as well, but of a POST.
            if error.status == NOT_FOUND and present is not None:
                raise Conflict(f"{document.key} was deleted meanwhile") from error
            # A timeout or a 5xx of a webhook says nothing of etcd. Taken for a failure, a write that has happened would
            # be tried again with the old version, and its conflict would look like somebody else's.
            if error.status not in {0, *range(UNKNOWN_OUTCOME, 600)} or not self._is_written(document):
                raise as_rotation_error(error, f"write Secret {document.key}") from error
        self._budget.note(document.key)

    def rehearse(self, document: SecretDocument) -> None:
        """Have a write judged by the server (admission, quota, ownership), with nothing stored.

        Raises:
            Denied: As for ``publish``, or the server would refuse it.
        """
        present = self._get(document.key)
        if present is not None:
            refuse_foreign(present, document)
        try:
            self._write(document, present, dryRun="All")
        except ApiError as error:
            raise as_rotation_error(error, f"write Secret {document.key} (dry run)") from error

    def _present(self, key: ObjectKey, expected: str) -> Mapping[str, Any] | None:
        """Return what is to be replaced: as it was read for the decision, else as it is now.

        Whether it is still so, the server says: the write names the version.
        """
        if isinstance(expected, _VersionRead) and expected.key == key:
            return expected.secret
        return self._get(key)

    def _get(self, key: ObjectKey) -> Json | None:
        try:
            return self._api.get(resource_paths.secret(key))
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise as_rotation_error(error, f"read Secret {key}") from error

    def _write(self, document: SecretDocument, present: Mapping[str, Any] | None, **query: Any) -> None:
        body = manifest(document, present)
        if present is None:
            self._api.post(resource_paths.secrets(document.key.namespace), body, fieldManager=MANAGER, **query)
        else:
            self._api.put(resource_paths.secret(document.key), body, fieldManager=MANAGER, **query)

    def _is_written(self, document: SecretDocument) -> bool:
        """Read back after a write whose outcome is unknown, and compare (fault 28)."""
        try:
            secret = self._api.get(resource_paths.secret(document.key))
        except ApiError:
            return False
        there = stored_secret(secret).document
        return dict(there.data) == dict(document.data) and all(
            there.annotations.get(name) == value for name, value in document.annotations.items()
        )


class _VersionRead(str):
    """A resourceVersion, and the Secret that was read with it: there for the write, and gone with the decision."""

    __slots__ = ("key", "secret")
    key: ObjectKey
    secret: Mapping[str, Any]

    def __new__(cls, version: str, secret: Mapping[str, Any]) -> Self:
        """Keep of the values only whether there are any."""
        made = super().__new__(cls, version)
        metadata = secret["metadata"]
        made.key = ObjectKey(metadata["namespace"], metadata["name"])
        made.secret = {**secret, "data": {name: bool(value) for name, value in (secret.get("data") or {}).items()}}
        return made


def stored_secret(secret: Mapping[str, Any]) -> StoredSecret:
    """Read a Secret of the API."""
    metadata = secret["metadata"]
    data = {name: Sensitive(_text(value)) for name, value in (secret.get("data") or {}).items()}
    key = ObjectKey(metadata["namespace"], metadata["name"])
    annotations = dict(metadata.get("annotations") or {})
    return StoredSecret(SecretDocument(key, data, annotations), metadata["resourceVersion"], _ownership(metadata))


def _ownership(metadata: Mapping[str, Any]) -> Ownership:
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    uids = frozenset(str(reference.get("uid")) for reference in metadata.get("ownerReferences") or ())
    asking = str(metadata.get("uid", "")) if labels.get(ASKS) == "true" else ""
    return Ownership(labels.get(MANAGED_BY) == MANAGER, str(notes.get(POLICY, "")), uids, asking)


def _asks_itself(document: SecretDocument) -> bool:
    return document.owner is not None and document.owner.is_the_secret


def manifest(document: SecretDocument, present: Mapping[str, Any] | None) -> Json:
    """Return the whole object to write: our data, our metadata, and what others put into metadata."""
    old: dict[str, Any] = dict(present["metadata"]) if present else {}
    owner = document.owner
    # Annotations of ours that the document does not have are stale; those of others stay. On a Secret that asks for
    # itself, what it asks is its owner's, and so are its labels: another tool may know it by them.
    person = _asks_itself(document)
    stale = RECORDS if person else {name for name in old.get("annotations") or {} if name.startswith(PREFIX)}
    others = {name: text for name, text in (old.get("annotations") or {}).items() if name not in stale}
    annotations = {**others, **document.annotations}
    if owner:
        annotations[POLICY] = owner.name
    # The version makes it optimistic; the UID, that a Secret which was deleted and made anew is not taken for the one
    # that was read.
    kept: dict[str, Any] = {name: old[name] for name in ("resourceVersion", "uid", "finalizers") if name in old}
    metadata = {
        **kept,
        "namespace": document.key.namespace,
        "name": document.key.name,
        "labels": {**(old.get("labels") or {}), **({} if person else LABELS)},
        "annotations": annotations,
        "ownerReferences": _owners(old.get("ownerReferences") or [], owner),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": OPAQUE,
        "metadata": metadata,
        "data": {name: base64.b64encode(value.reveal().encode()).decode() for name, value in document.data.items()},
    }


def owner_reference(owner: Owner) -> OwnerReference:
    """Return the controller reference by which the Secret goes with its policy."""
    return {
        "apiVersion": owner.api_version,
        "kind": KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        # True would need the right to update the policy's finalizers, which credrotator does not ask for.
        "blockOwnerDeletion": False,
    }


def _owners(present: Sequence[Mapping[str, Any]], owner: Owner | None) -> Sequence[Mapping[str, Any]]:
    """Keep other owners; the policy is there once, by its present version and UID."""
    if owner is None or owner.is_the_secret:
        return present
    others = [reference for reference in present if not _names(reference, owner)]
    return [*others, owner_reference(owner)]


def _names(reference: Mapping[str, Any], owner: Owner) -> bool:
    """Tell whether an owner reference is to a policy of this name, whatever its version and UID."""
    group = str(reference["apiVersion"]).rpartition("/")[0]
    return (group, reference["kind"], reference["name"]) == (GROUP, KIND, owner.name)


def refuse_foreign(present: Mapping[str, Any], document: SecretDocument) -> None:
    """Let only a Secret be overwritten that is ours, or that the gateway made for the same policy (faults 40, G23).

    A label is easily put on: a Secret of another type, or of another controller, is somebody's all the same. A policy
    of this name with another UID is one that was deleted and made anew; what we made for it is ours again.

    Raises:
        Denied: It is somebody else's.
    """
    metadata = present["metadata"]
    notes = metadata.get("annotations") or {}
    ours = (metadata.get("labels") or {}).get(MANAGED_BY) == MANAGER
    kind = str(present.get("type") or OPAQUE)
    if kind != OPAQUE:
        message = f"Secret {document.key} is of type {printable(kind, 80)}, so it was made for something else"
        raise Denied("SecretNotOurs", message, hint="rename or delete it, or let the policy name another Secret")
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and not _may_own(reference, document.owner, ours=ours, notes=notes):
            uid = f" with UID {reference.get('uid')}" if document.owner and _names(reference, document.owner) else ""
            what = f"{reference['kind']} {reference['name']} of {reference['apiVersion']}{uid}"
            message = f"Secret {document.key} is controlled by {printable(what)}"
            raise Denied("ForeignOwner", message, hint="remove that owner reference, or rename the policy")
    if document.owner and document.owner.is_the_secret:
        _refuse_unasked(present, document.key, document.owner)
    elif not ours and not notes.keys() & {EXPIRY, FINGERPRINT, CONTENT}:
        message = f"Secret {document.key} exists and was not made by credrotator or the gateway"
        raise Denied("SecretNotOurs", message, hint="rename or delete it, or label it: " + SELECTOR)


def _refuse_unasked(present: Mapping[str, Any], key: ObjectKey, owner: Owner) -> None:
    """Let a Secret be filled that still asks for it, and that nobody else has filled since it was looked at."""
    metadata = present["metadata"]
    if not asks(present) or metadata.get("uid") != owner.uid:
        message = f"Secret {key} does not ask for a credential any more"
        raise Denied("SecretNotOurs", message, hint=f"label it: {ASKING}")
    if any((present.get("data") or {}).values()) and CONTENT not in (metadata.get("annotations") or {}):
        message = f"Secret {key} holds values that credrotator did not write"
        raise Denied("SecretNotOurs", message, hint=f"remove the values, or the label {ASKS}")


def _may_own(reference: Mapping[str, Any], owner: Owner | None, *, ours: bool, notes: Mapping[str, Any]) -> bool:
    if owner is None or not _names(reference, owner):
        return False
    return reference.get("uid") == owner.uid or (ours and notes.get(POLICY) == owner.name)


def _text(value: str) -> str:
    try:
        return base64.b64decode(value).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""
