"""BackendSecurityPolicy → Policy: every rule about what a policy may say. Pure.

Validation collects everything that is wrong, each with its field path; nothing raises. What a single field may hold
is ``schema``'s; what fields mean together is here, and in each provider's reader of its own block. Foreign text reaches
a message escaped and cut.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from credrotator.core.durations import parse_duration
from credrotator.core.errors import printable
from credrotator.core.model import (
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    Problem,
    Rotatable,
    RotatablePolicy,
    SecretKeyRef,
    Source,
    Static,
    backend_key,
    generated_secret,
)
from credrotator.core.secretdata import request_note
from credrotator.policies import schema
from credrotator.policies.annotations import (
    CLIENT_ASSERTION,
    DURATION,
    PREFIX,
    RENEW,
    SUBJECT_TOKEN,
    SWITCH,
    VERIFY,
    annotation_path,
)
from credrotator.policies.documents import DocumentError, read_tenant_list
from credrotator.policies.gateway_truth import override_warnings
from credrotator.policies.messages import (
    MANY,
    choice_problems,
    few,
    mechanism_problems,
    schema_problems,
    suggestion,
    unknown_fields,
)
from credrotator.policies.newer import SERVED, newer_part, unsupported
from credrotator.policies.served import dropped_fields, is_alpha, is_exclusive, schema_problems_of
from credrotator.policies.token_sources import IN_PLACE, read_token_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from credrotator.core.model import TokenSource
    from credrotator.policies.manifest import Manifest
    from credrotator.policies.served import ServedSchema

# The shortest and the longest life that vendors let a policy choose; they all have these two.
DURATION_RANGE = (timedelta(minutes=15), timedelta(hours=12))
NAME_LIMIT = 253
Shape = TypeVar("Shape", bound=schema.SchemaModel)
"""What an annotation holds."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator sets for all policies.

    Attributes:
        namespace: Of objects that name none.
        options: Values of the providers' own options, by name (``OperatorOption``).
        verify: New credentials are looked at before they are published.
    """

    namespace: str = "default"
    options: Mapping[str, str] = field(default_factory=dict)
    verify: bool = False


class AnnotationUse(NamedTuple):
    """An annotation of ours on a policy, the sources that it applies to, and what people call these."""

    name: str
    sources: tuple[type[Rotatable], ...]
    where: str


class BlockReader(Protocol):
    """A provider's part of reading policies: the block of one type."""

    @property
    def policy_type(self) -> str:
        """Return the type (``spec.type``) whose block it reads; empty where the gateway's API has none for it."""

    @property
    def sources(self) -> tuple[type[Rotatable], ...]:
        """List what it makes of a block that is to be rotated."""

    @property
    def annotations(self) -> tuple[AnnotationUse, ...]:
        """List the provider's own annotations."""

    def read(self, reading: Reading, spec: schema.Spec) -> Source | None:
        """Check what the block's fields mean together; None only where the block is not there."""


@dataclass(frozen=True, slots=True)
class OwnReading:
    """How a block is read that stands in an annotation only, since the gateway's API does not have it.

    Attributes:
        block: The name by which messages know it until they name the annotation.
        schema: Its fields.
        read: Checks what they mean together; the last argument is the path of the block.
    """

    block: str
    schema: type[schema.OwnBlock]
    read: Callable[[Reading, Any, str], Rotatable]


class PolicyReader:
    """Reads policies: the gateway's rules here, each provider's by its own reader.

    Args:
        readers: The providers' readers.
        defaults: The operator's settings.
        served: What the cluster of the policies serves as ``v1alpha1``, where that is known.
    """

    def __init__(self, readers: Sequence[BlockReader], defaults: Defaults, served: ServedSchema | None = None) -> None:
        self.defaults = defaults
        self.served = served
        self.readers = readers
        self.annotations = _annotations(readers)
        self._by_type = {reader.policy_type: reader for reader in readers if reader.policy_type}

    def read(self, manifest: Manifest, origin: str, *, managed: bool = False) -> Policy | InvalidPolicy:
        """Turn one manifest into a Policy, or into everything that is wrong with it.

        Args:
            manifest: The object as parsed from YAML, JSON or the API.
            origin: Where it comes from, for messages.
            managed: The gateway does not see it like this, so that it may say what the gateway's rotator cannot do.
        """
        key = _key_of(manifest, self.defaults.namespace)
        if (why := newer_part(manifest)) and not key.name.startswith("("):
            return unsupported(manifest, key, origin, why)
        try:
            shape = schema.BackendSecurityPolicy.model_validate(manifest)
        except ValidationError as error:
            problems = [*schema_problems(error), *self._whole_problems(manifest, managed=managed)]
            return InvalidPolicy(key, origin, few(problems))
        reading = Reading(key, shape, self, managed=managed)
        reading.warnings += dropped_fields(manifest)
        source = reading.source()
        problems = [*self._whole_problems(manifest, managed=managed), *reading.problems]
        if source is None or problems:
            return InvalidPolicy(key, origin, few(problems))
        return _policy(reading, source, origin)

    def read_own(
        self, manifest: Manifest, own: OwnReading, content: Mapping[str, Any], origin: str
    ) -> Policy | InvalidPolicy:
        """Turn a block that the gateway's API does not have into a Policy, or into everything that is wrong with it.

        Unknown fields are wrong here: there is no newer gateway that may know them.

        Args:
            manifest: The object in which the block was found.
            own: How such a block is read.
            content: The block.
            origin: Where it comes from, for messages.
        """
        key = _key_of(manifest, self.defaults.namespace)
        path = f"spec.{own.block}"
        problems = list(choice_problems(content, own.schema, path, alpha=False))
        try:
            block = own.schema.model_validate(content)
        except ValidationError as error:
            problems += [Problem(f"{path}.{p.path}" if p.path else path, p.message) for p in schema_problems(error)]
            return InvalidPolicy(key, origin, few([*problems, *self._whole_problems(manifest)]))
        problems += [Problem(*line.split(": ", 1)) for line in unknown_fields(block, path)]
        try:
            shape = schema.BackendSecurityPolicy.model_validate(manifest)
        except ValidationError as error:
            return InvalidPolicy(key, origin, few([*problems, *schema_problems(error)]))
        reading = Reading(key, shape, self, managed=True)
        source = reading.source(lambda reading: own.read(reading, block, path))
        problems += [*self._whole_problems(manifest), *reading.problems]
        if source is None or problems:
            return InvalidPolicy(key, origin, few(problems))
        return _policy(reading, source, origin)

    def block_reader(self, policy_type: str) -> BlockReader | None:
        """Return who reads the block of a type; None for types without anything to rotate."""
        return self._by_type.get(policy_type)

    def _whole_problems(self, manifest: Manifest, *, managed: bool = False) -> Iterator[Problem]:
        """Check what can be seen without a sound shape, so that it is reported beside the shape's own problems."""
        # What an annotation holds is no policy of the API server's, which may have no such type.
        served = None if managed else self.served
        yield from schema_problems_of(manifest, served)
        version, metadata, spec = (manifest.get(name) for name in ("apiVersion", "metadata", "spec"))
        if isinstance(version, str) and version and version not in SERVED:
            yield Problem("apiVersion", f"expected {' or '.join(SERVED)}, got {printable(version, 80)}")
        annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
        for name in annotations if isinstance(annotations, dict) else ():
            if isinstance(name, str) and name.startswith(PREFIX) and name not in self.annotations:
                known = suggestion(name, self.annotations) or f"; known are {', '.join(self.annotations)}"
                yield Problem(annotation_path(name), f"unknown to credrotator{known}")
        fields = spec if isinstance(spec, dict) else {}
        kind = fields.get("type")
        if isinstance(kind, str) and kind in schema.MECHANISMS:
            block = schema.MECHANISMS[kind].block
            yield from mechanism_problems(fields, kind, strict=is_exclusive(manifest, served))
            yield from choice_problems({block: fields.get(block)}, schema.Spec, "spec", alpha=is_alpha(manifest))


def _annotations(readers: Iterable[BlockReader]) -> Mapping[str, AnnotationUse]:
    """Put together who uses which annotation; one of several providers applies to all of theirs."""
    exchanging = tuple(source for reader in readers for source in reader.sources)
    uses: defaultdict[str, list[AnnotationUse]] = defaultdict(list)
    for reader in readers:
        for use in reader.annotations:
            uses[use.name].append(use)
    for name in (SUBJECT_TOKEN, *IN_PLACE):
        uses[name].append(AnnotationUse(name, exchanging, "oidcExchangeToken"))
    uses[CLIENT_ASSERTION].append(AnnotationUse(CLIENT_ASSERTION, exchanging, "oidcExchangeToken.oidc"))
    for name in (RENEW, VERIFY):
        uses[name].append(AnnotationUse(name, exchanging, "policies that are rotated"))
    return {
        name: AnnotationUse(name, tuple(s for use in of for s in use.sources), " and to ".join(use.where for use in of))
        for name, of in uses.items()
    }


def _policy(reading: Reading, source: Source, origin: str) -> Policy:
    key, shape = reading.key, reading.shape
    common: dict[str, Any] = {
        "key": key,
        "uid": shape.metadata.uid or str(key),
        "api_version": shape.api_version,
        "origin": origin,
        "targets": tuple(backend_key(key.namespace, ref.kind, ref.name) for ref in shape.spec.target_refs),
        "warnings": tuple(islice(reading.warnings, MANY)),
    }
    if isinstance(source, Static):
        return Policy(source=source, secret=source.secret.secret if source.secret else None, **common)
    request = request_note(reading.annotations.get(RENEW, ""))
    return RotatablePolicy(
        source=source, secret=generated_secret(key), renew_request=request, verify=reading.verify(), **common
    )


def _key_of(manifest: Manifest, namespace: str) -> ObjectKey:
    """Name the object; what is no Kubernetes name never becomes a key, because keys become names of files."""
    metadata = manifest.get("metadata")
    fields = metadata if isinstance(metadata, dict) else {}
    name, own = fields.get("name"), fields.get("namespace")
    if name is None or name == "":
        name = "(no name)"
    elif not isinstance(name, str) or not schema.NAME.fullmatch(name):
        name = "(no valid name)"
    if own is None or not isinstance(own, str) or not schema.NAMESPACE.fullmatch(own):
        own = namespace
    return ObjectKey(own, name)


class Reading:
    """One policy while it is read: the shape, and the problems and warnings so far. Providers' readers are handed it.

    Attributes:
        managed: The policy is one that the gateway does not see like this.
        annotations: All of the policy's annotations.
        defaults: The operator's settings.
        problems: What is wrong, each with its field path.
        warnings: Oddities that do not stop the policy.
    """

    def __init__(
        self, key: ObjectKey, shape: schema.BackendSecurityPolicy, reader: PolicyReader, *, managed: bool
    ) -> None:
        self.managed = managed
        self.key = key
        self.shape = shape
        self.annotations = shape.metadata.annotations
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._reader = reader

    @property
    def defaults(self) -> Defaults:
        """The operator's settings."""
        return self._reader.defaults

    def wrong(self, path: str, message: str) -> None:
        """Take note of something that is wrong with a field."""
        self.problems.append(Problem(path, message))

    def source(self, read: Callable[[Reading], Source] | None = None) -> Source | None:
        """Check what fields mean together; None only where the mechanism of the type is not there.

        Args:
            read: Reads the block; else the type tells who does.
        """
        self._check_targets()
        self._warn()
        source = read(self) if read else self._mechanism()
        if source is not None:
            self._check_annotations(source)
            self._check_names(source)
        return source

    def secret_key(self, ref: schema.SecretRef, key: str, path: str) -> SecretKeyRef:
        """Make a reference to a key of a Secret, by default of the policy's namespace."""
        return SecretKeyRef(ObjectKey(ref.namespace or self.key.namespace, ref.name), key, path)

    def static_key(self, ref: schema.SecretRef, key: str, path: str) -> SecretKeyRef:
        """Make a reference to a key that the gateway itself reads: in the policy's namespace, whatever is written."""
        if ref.namespace and ref.namespace != self.key.namespace:
            where = f"the gateway reads {ref.name} in namespace {self.key.namespace}, whatever is written here"
            self.warnings.append(f"{path}.namespace: {where}; move the Secret there")
        return self.secret_key(ref, key, path)

    def duration(self) -> timedelta | None:
        """Read the annotation that says how long a credential is to live; None where there is none."""
        text = self.annotations.get(DURATION)
        return None if text is None else self.life(text, annotation_path(DURATION))

    def verify(self) -> bool:
        """Tell whether a new credential is looked at first; the policy's word goes before the operator's."""
        return SWITCH.get(self.annotations.get(VERIFY, ""), self.defaults.verify)

    def life(self, text: str, path: str) -> timedelta | None:
        """Read how long a credential is to live; None where it is no such duration, which is wrong with the field."""
        try:
            duration = parse_duration(text)
        except ValueError as error:
            self.wrong(path, str(error))
            return None
        if not DURATION_RANGE[0] <= duration <= DURATION_RANGE[1]:
            self.wrong(path, f"expected 15m to 12h, got {printable(text, 80)}")
        elif duration % timedelta(seconds=1):
            self.wrong(path, f"expected whole seconds, got {printable(text, 80)}")
        return duration

    def listed(self, name: str, shape: type[Shape], field: str) -> Shape | None:
        """Read an annotation that holds a list; None where there is none, or it cannot be read.

        Args:
            name: The annotation.
            shape: Has the list as its only field.
            field: That field's name.
        """
        text = self.annotations.get(name)
        if text is None:
            return None
        path = annotation_path(name)
        try:
            document = shape.model_validate({field: read_tenant_list(text)})
        except DocumentError as error:
            self.wrong(path, error.reason)
            return None
        except ValidationError as error:
            problems = schema_problems(error)
            self.problems += [Problem(path + each.path.removeprefix(field), each.message) for each in problems]
            return None
        for unknown in unknown_fields(document, ""):
            where, _, message = unknown.removeprefix(f".{field}").partition(": ")
            self.wrong(path + where, message)
        return document

    def token_source(self, exchange: schema.OidcExchange, path: str, *, default_audience: str = "") -> TokenSource:
        """Read where the subject token comes from (``oidcExchangeToken``, or what an annotation puts in its place).

        Args:
            exchange: The policy's ``oidcExchangeToken``.
            path: Where that stands.
            default_audience: Whom the vendor wants the token for, where the policy does not say.
        """
        return read_token_source(self, exchange, path, default_audience)

    def _mechanism(self) -> Source | None:
        spec = self.shape.spec
        mechanism = schema.MECHANISMS[spec.type]
        if mechanism.static:
            block: schema.KeySecret | None = getattr(spec, schema.SPEC_FIELDS[mechanism.block])
            if block is None:
                return None
            return Static(
                mechanism.static, self.static_key(block.secret_ref, "apiKey", f"spec.{mechanism.block}.secretRef")
            )
        reader = self._reader.block_reader(spec.type)
        if reader is None:
            self.wrong("spec.type", f"{spec.type} is not rotated by this version of credrotator")
            return None
        return reader.read(self, spec)

    def _warn(self) -> None:
        spec = self.shape.spec
        required = schema.MECHANISMS[spec.type].block
        for mechanism in schema.MECHANISMS.values():
            if mechanism.block != required and getattr(spec, schema.SPEC_FIELDS[mechanism.block]) is not None:
                self.warnings.append(f"spec.{mechanism.block}: ignored, the type is {spec.type}")
        self.warnings += unknown_fields(spec, "spec")
        self.warnings += override_warnings(spec.credential_override)

    def _check_targets(self) -> None:
        groups = {"AIServiceBackend": schema.GROUP, "InferencePool": schema.INFERENCE_GROUP}
        for index, ref in enumerate(self.shape.spec.target_refs):
            if ref.group != groups[ref.kind]:
                shown = printable(ref.group, 80)
                self.wrong(
                    f"spec.targetRefs[{index}].group", f"expected {groups[ref.kind]} for {ref.kind}, got {shown}"
                )

    def _check_annotations(self, source: Source) -> None:
        token_source = source.token_source if isinstance(source, Rotatable) else None
        general = dict.fromkeys((SUBJECT_TOKEN, *IN_PLACE), token_source is not None)
        general[CLIENT_ASSERTION] = isinstance(token_source, OidcClient)
        for name, use in self._reader.annotations.items():
            applies = general.get(name, isinstance(source, use.sources))
            if name in self.annotations and not applies:
                self.wrong(annotation_path(name), f"applies to {use.where} only; remove it")
        if (text := self.annotations.get(VERIFY, "true")) not in SWITCH:
            self.wrong(annotation_path(VERIFY), f'expected "true" or "false", got {printable(text, 80)}')

    def _check_names(self, source: Source) -> None:
        """The namespace may be the operator's default; the name has to leave room for the generated Secret's."""
        if not schema.NAMESPACE.fullmatch(self.key.namespace):
            shown = printable(self.key.namespace, 80)
            self.wrong("metadata.namespace", f"the default namespace is no Kubernetes namespace: {shown}")
        if isinstance(source, Static) or schema.NAME.fullmatch(generated_secret(self.key).name):
            return
        prefix = generated_secret(ObjectKey("", "")).name
        self.wrong(
            "metadata.name",
            f"has {len(self.key.name)} characters; at most {NAME_LIMIT - len(prefix)} leave room for the name of the "
            f"Secret that the gateway reads, {prefix}<name>",
        )
