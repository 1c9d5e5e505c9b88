"""A Secret that asks for itself → Policy: what stands in a managed policy's annotation stands on the Secret. Pure.

For consumers other than the gateway, which name a Secret and have no policy. The block is read by the same readers as a
policy's, so all that holds for a policy holds here. Only a Secret that nobody else has filled may ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable
from credrotator.core.model import SECRET_KIND, InvalidPolicy, ObjectKey, Policy, Problem, RotatablePolicy
from credrotator.core.secretdata import CONTENT, RECORDS
from credrotator.policies.annotations import ASKS, PREFIX, SHAPE, annotation_path
from credrotator.policies.messages import suggestion
from credrotator.policies.newer import SERVED
from credrotator.policies.schema import KIND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from credrotator.policies.managed import FormReader, ManagedForm
    from credrotator.policies.manifest import Manifest

OPAQUE = "Opaque"
_NAMED = "secret:"
"""What the name of such a policy begins with; no Kubernetes name does, so a policy may be called like the Secret."""


def asks(manifest: Manifest) -> bool:
    """Tell whether a Secret asks for itself, by its label."""
    metadata = manifest.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return isinstance(labels, dict) and labels.get(ASKS) == "true"


def asking_key(secret: ObjectKey) -> ObjectKey:
    """Name the policy that a Secret is for itself."""
    return ObjectKey(secret.namespace, _NAMED + secret.name)


def asking_secret(policy: ObjectKey) -> ObjectKey | None:
    """Return the Secret that asks as this policy; None for a policy that is one."""
    if not policy.name.startswith(_NAMED):
        return None
    return ObjectKey(policy.namespace, policy.name.removeprefix(_NAMED))


def read_asking(forms: FormReader, manifest: Manifest, secret: ObjectKey, origin: str) -> Policy | InvalidPolicy:
    """Turn a Secret that asks for itself into a Policy, or into everything that is wrong with it.

    Args:
        forms: Reads what it asks for.
        manifest: The Secret.
        secret: Its key.
        origin: Where it comes from, for messages.
    """
    key, metadata = asking_key(secret), manifest.get("metadata") or {}
    annotations = metadata.get("annotations")
    notes: Mapping[str, Any] = annotations if isinstance(annotations, dict) else {}
    problems = list(_secret_problems(manifest, notes))
    named = [form for form in forms.forms if form.annotation in notes]
    if len(named) != 1:
        problems.append(_which(forms.forms, named))
        return InvalidPolicy(key, origin, tuple(problems))
    form = named[0]
    problems += _shape_problems(form, notes)
    asked = forms.asked(_as_policy(secret, metadata, notes), form, origin)
    problems += forms.problems(asked, form)
    if isinstance(asked, RotatablePolicy):
        problems += _reference_problems(asked, secret, form)
    elif isinstance(asked, Policy):
        problems.append(Problem(form.path, f"expected something to rotate: {form.rotatable}"))
    if problems or not isinstance(asked, RotatablePolicy):
        return InvalidPolicy(key, origin, tuple(problems))
    return RotatablePolicy(
        key=key,
        source=asked.source,
        uid=str(metadata.get("uid") or key),
        api_version="v1",
        origin=origin,
        secret=secret,
        warnings=tuple(warning.replace(f"spec.{form.block}", form.path) for warning in asked.warnings),
        managed=True,
        renew_request=asked.renew_request,
        kind=SECRET_KIND,
        shape=form.shapes[notes[SHAPE]],
    )


def _as_policy(secret: ObjectKey, metadata: Mapping[str, Any], notes: Mapping[str, Any]) -> Manifest:
    """Return a policy that asks for the same: the annotations that its author writes are the same as well."""
    kept = {name: text for name, text in notes.items() if name not in RECORDS | {SHAPE}}
    return {
        "apiVersion": SERVED[-1],
        "kind": KIND,
        "metadata": {"namespace": secret.namespace, "annotations": kept, "uid": metadata.get("uid")},
        "spec": {"type": "APIKey", "apiKey": {"secretRef": {"name": secret.name}}},
    }


def _secret_problems(manifest: Manifest, notes: Mapping[str, Any]) -> Iterator[Problem]:
    kind = manifest.get("type") or OPAQUE
    if kind != OPAQUE:
        yield Problem("type", f"expected {OPAQUE}, got {printable(kind, 80)}: it was made for something else")
    if manifest.get("immutable"):
        yield Problem("immutable", "must not be true: the credential is replaced before it expires")
    for block in ("data", "stringData"):
        values = manifest.get(block)
        if isinstance(values, dict) and any(values.values()) and CONTENT not in notes:
            # NOTE: a label is easily put on. Whatever is there was put there by somebody, for somebody.
            message = "holds values that credrotator did not write, and that it never replaces"
            yield Problem(block, f"{message}; remove the label {ASKS}, or the values")


def _which(forms: Sequence[ManagedForm], named: Sequence[ManagedForm]) -> Problem:
    if named:
        names = " and ".join(form.annotation for form in named)
        return Problem(named[0].path, f"only one of {names} can be meant; remove the other")
    known = ", ".join(form.annotation for form in forms)
    return Problem("metadata.annotations", f"expected what the Secret asks for in one of {known}")


def _shape_problems(form: ManagedForm, notes: Mapping[str, Any]) -> Iterator[Problem]:
    shape = notes.get(SHAPE)
    if isinstance(shape, str) and shape in form.shapes:
        return
    expected = f"expected {' or '.join(form.shapes)}, which {form.annotation.removeprefix(PREFIX)} can be given as"
    got = "" if shape is None else f", got {printable(shape, 80)}{suggestion(str(shape)[:80], form.shapes) or ''}"
    yield Problem(annotation_path(SHAPE), expected + got)


def _reference_problems(asked: RotatablePolicy, secret: ObjectKey, form: ManagedForm) -> Iterator[Problem]:
    """A grant is given to policies, and to no Secret; and what is to be written cannot be what is to be read."""
    for ref in asked.references:
        path = ref.path.replace(f"spec.{form.block}", form.path)
        if ref.secret.namespace != secret.namespace:
            yield Problem(f"{path}.namespace", f"must be {secret.namespace}, the Secret's own; remove it")
        elif ref.secret == secret:
            yield Problem(f"{path}.name", "is the Secret that the credential is written into; name another")
