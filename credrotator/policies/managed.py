"""The two forms of a policy, and the way from the one to the other. Pure.

Drop-in: the gateway's own policy as it is; the gateway's rotator stands by. Managed: the gateway sees a policy without
a rotator in it, which names a Secret, and an annotation holds what credrotator is to do, as the very object that the
API has under that name in ``spec``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml

from credrotator.core.model import InvalidPolicy, Policy, Problem, RotatablePolicy, Static
from credrotator.core.shapes import TOKEN_SHAPES
from credrotator.policies.annotations import PREFIX, annotation_path
from credrotator.policies.documents import DocumentError, read_tenant_object
from credrotator.policies.reader import PolicyReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credrotator.core.shapes import Shape
    from credrotator.policies.manifest import Manifest
    from credrotator.policies.reader import OwnReading
    from credrotator.policies.served import ServedSchema

# Another name than that of the drop-in form's Secret, which the gateway's rotator makes and owns.
SUFFIX, NAME_LENGTH = "-credentials", 253


@dataclass(frozen=True, slots=True)
class ManagedForm:
    """How a provider's block stands in an annotation, and how the gateway takes the credential.

    Attributes:
        annotation: Holds the block.
        policy_type: The type whose block it is; empty where the gateway's API does not have the block.
        block: The block's name in ``spec``.
        carrier: The static policy by which the gateway takes the credential: the bytes on the wire are the same.
        expected: What the carrier has to look like, for people.
        rotatable: Which fields of the block ask for something to rotate, for people.
        carry: Converts a drop-in policy; None where the managed form does not do the same, or there is no other.
        own: Reads the block where the gateway's API does not have it.
        headers: What each request with the credential needs beside it; the backend has to add them.
        shapes: In which shapes a Secret may ask for the credential, by name; None: as the gateway reads it.
    """

    annotation: str
    policy_type: str
    block: str
    carrier: str
    expected: str
    rotatable: str
    carry: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] | None
    own: OwnReading | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Shape | None] = field(default_factory=lambda: TOKEN_SHAPES)

    @property
    def path(self) -> str:
        """The annotation's field path."""
        return annotation_path(self.annotation)

    def takes(self, policy: Policy) -> bool:
        """Tell whether the gateway takes this credential from a policy."""
        match policy.source:
            case Static(provider=self.carrier, secret=secret, profile=None | "default"):
                return secret is not None
            case _:
                pass
        return False


def header_mutation(form: ManagedForm) -> dict[str, Any]:
    """Return the part of an AIServiceBackend's ``spec`` that adds what requests need; empty where they need nothing."""
    headers = [{"name": name, "value": value} for name, value in form.headers.items()]
    return {"headerMutation": {"set": headers}} if headers else {}


class FormReader:
    """Reads policies of either form.

    Args:
        policies: Reads the drop-in form.
        forms: The providers' managed forms.
    """

    def __init__(self, policies: PolicyReader, forms: Sequence[ManagedForm]) -> None:
        self.policies = policies
        self.forms = tuple(forms)
        self._forms = {form.annotation: form for form in forms}

    @property
    def served(self) -> ServedSchema | None:
        """What the cluster of the policies serves as ``v1alpha1``, where that is known."""
        return self.policies.served

    def under(self, served: ServedSchema | None) -> FormReader:
        """Return a reader like this for policies of a cluster that serves something else as ``v1alpha1``."""
        policies = PolicyReader(self.policies.readers, self.policies.defaults, served)
        return FormReader(policies, list(self._forms.values()))

    def read(self, manifest: Manifest, origin: str) -> Policy | InvalidPolicy:
        """Turn one manifest into a Policy, or into everything that is wrong with it; see ``PolicyReader.read``."""
        metadata = manifest.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
        named = [name for name in self._forms if isinstance(annotations, dict) and name in annotations]
        if not isinstance(metadata, dict) or not isinstance(annotations, dict) or not named:
            return self.policies.read(manifest, origin)
        form = self._forms[named[0]]
        # Ours would be wrong on a policy without an exchange in it, and are read with the annotation's content instead.
        foreign = {key: value for key, value in annotations.items() if not str(key).startswith(PREFIX)}
        carrier = self.policies.read({**manifest, "metadata": {**metadata, "annotations": foreign}}, origin)
        asked = self.asked(manifest, form, origin)
        problems = [*self.problems(carrier), *self.problems(asked, form), *_form_problems(carrier, asked, form, named)]
        if problems or isinstance(carrier, InvalidPolicy) or not isinstance(asked, RotatablePolicy):
            return InvalidPolicy(carrier.key, origin, tuple(problems))
        return _joined(carrier, asked, form)

    @staticmethod
    def problems(policy: Policy | InvalidPolicy, form: ManagedForm | None = None) -> list[Problem]:
        """List a reading's problems; those of an annotation's content under the annotation's own path."""
        if isinstance(policy, Policy):
            return []
        if form is None:
            return list(policy.problems)
        block = f"spec.{form.block}"
        inside = [p for p in policy.problems if p.path.startswith((block, f"metadata.annotations[{PREFIX}"))]
        return [replace(problem, path=problem.path.replace(block, form.path)) for problem in inside]

    def is_convertible(self, policy: Policy) -> bool:
        """Tell whether a drop-in policy has a managed form that does the same."""
        return isinstance(policy, RotatablePolicy) and self._form_of(policy) is not None

    def convert(self, manifest: Manifest, policy: Policy) -> dict[str, Any]:
        """Return the managed form of a convertible drop-in policy's manifest; what others keep in it stays.

        Raises:
            ValueError: The policy is not convertible.
        """
        form = self._form_of(policy)
        if form is None or form.carry is None:
            raise ValueError(f"{policy.provider} has no managed form that does the same")
        spec, metadata = dict(manifest["spec"]), dict(manifest["metadata"])
        content = spec.pop(form.block)
        secret = {"name": f"{policy.key.name[: NAME_LENGTH - len(SUFFIX)].rstrip('-.')}{SUFFIX}"}
        annotations = {
            **(metadata.get("annotations") or {}),
            form.annotation: yaml.safe_dump(content, sort_keys=False),
        }
        # It has the old spec in it, and kubectl writes it anew when it applies this one.
        annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
        # uid, resourceVersion and managedFields are the old object's; with them, apply fails or conflicts.
        kept = {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata}
        return {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "metadata": {**kept, "annotations": annotations},
            "spec": {**spec, **form.carry(content, {"secretRef": secret})},
        }

    def _form_of(self, policy: Policy) -> ManagedForm | None:
        """Return the form of a policy's provider, by the type whose block its source came from."""
        for form in self._forms.values():
            reader = self.policies.block_reader(form.policy_type)
            if form.carry and reader and isinstance(policy.source, reader.sources):
                return form
        return None

    def asked(self, manifest: Manifest, form: ManagedForm, origin: str) -> Policy | InvalidPolicy:
        """Read what a form's annotation holds as if it stood in ``spec``; our other annotations apply to it."""
        metadata, annotations = manifest["metadata"], manifest["metadata"]["annotations"]
        try:
            content = read_tenant_object(annotations[form.annotation])
        except DocumentError as error:
            problem = Problem(f"spec.{form.block}", error.reason)
            return InvalidPolicy(self.policies.read(manifest, origin).key, origin, (problem,))
        # Or the reading would begin anew with the same annotation, without end.
        rest = {key: value for key, value in annotations.items() if key not in self._forms}
        # Under a short name: the limit that the gateway's own name for the Secret sets does not concern this form.
        named = {**metadata, "name": "asked", "annotations": rest}
        if form.own is not None:
            return self.policies.read_own({**manifest, "metadata": named}, form.own, content, origin)
        inner = {**manifest, "metadata": named, "spec": {"type": form.policy_type, form.block: content}}
        return self.policies.read(inner, origin, managed=True)


def _joined(carrier: Policy, asked: RotatablePolicy, form: ManagedForm) -> RotatablePolicy:
    """Make one policy of the carrier, which the gateway sees, and of what the annotation asks for."""
    source = carrier.source
    assert isinstance(source, Static) and source.secret and carrier.secret  # noqa: S101, PT018 - by _form_problems
    warnings = [warning.replace(f"spec.{form.block}", form.path) for warning in asked.warnings]
    return RotatablePolicy(
        key=carrier.key,
        source=asked.source,
        uid=carrier.uid,
        api_version=carrier.api_version,
        origin=carrier.origin,
        secret=carrier.secret,
        targets=carrier.targets,
        warnings=tuple(dict.fromkeys([*carrier.warnings, *warnings])),
        data_key=source.secret.key,
        managed=True,
        renew_request=asked.renew_request,
    )


def _form_problems(
    carrier: Policy | InvalidPolicy, asked: Policy | InvalidPolicy, form: ManagedForm, named: Sequence[str]
) -> list[Problem]:
    """Check what the two halves mean together."""
    problems = []
    if len(named) > 1:
        problems.append(Problem(form.path, f"only one of {' and '.join(named)} can be meant; remove the other"))
    if isinstance(carrier, Policy) and not form.takes(carrier):
        problems.append(Problem(form.path, f"the gateway takes this credential from a policy with {form.expected}"))
    if isinstance(carrier, Policy) and carrier.secret and carrier.secret.namespace != carrier.key.namespace:
        problems.append(Problem("spec", f"Secret {carrier.secret} must be in the policy's own namespace"))
    if isinstance(asked, Policy) and not isinstance(asked, RotatablePolicy):
        problems.append(Problem(form.path, f"expected something to rotate: {form.rotatable}"))
    return problems
