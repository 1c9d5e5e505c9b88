"""Shapes of what the API server gives and takes. Types only.

Source: Kubernetes API conventions; ``k8s.io/apimachinery`` ``meta/v1``; coordination.k8s.io/v1.
"""

from __future__ import annotations

from typing import Any, TypedDict

Json = dict[str, Any]
"""Any object of the API server, as it was parsed: which members it has, its kind and its author decide."""


class WatchEvent(TypedDict):
    """One event of a watch: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object.

    NOTE: of a bookmark, the object has nothing but its resourceVersion.
    """

    type: str
    object: Json


class OwnerReference(TypedDict):
    """By which an object is deleted with its owner (``meta/v1`` OwnerReference)."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool
    blockOwnerDeletion: bool


class StatusCondition(TypedDict):
    """One condition of a status (``meta/v1`` Condition); ``lastTransitionTime`` in RFC 3339, to the second."""

    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str


class LeaseRecord(TypedDict, total=False):
    """The spec of a Lease. Times in RFC 3339 with exactly six decimals; they are for people, nobody decides by them.

    Attributes:
        holderIdentity: Who holds it; empty for nobody.
        leaseDurationSeconds: For how long others wait without seeing a change.
        acquireTime: When the holder got it.
        renewTime: When it was renewed last.
        leaseTransitions: How often the holder changed.
    """

    holderIdentity: str
    leaseDurationSeconds: int
    acquireTime: str | None
    renewTime: str
    leaseTransitions: int
