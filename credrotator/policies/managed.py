"""The two forms of a policy, and the way from the one to the other. Pure.

Drop-in: the gateway's own OIDC policy as it is; the gateway's rotator stands by. Managed: the gateway sees a policy
without a rotator in it, which names a Secret, and an annotation holds what credrotator is to do, as the very object
that the API has under that name in ``spec``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from credrotator.core.model import InvalidPolicy, Policy, Problem, Rotatable, Static
from credrotator.policies.documents import DocumentError, read_tenant_object
from credrotator.policies.reader import PREFIX, read_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.policies.reader import Defaults

AWS = PREFIX + "aws-credentials"
AZURE = PREFIX + "azure-credentials"
GCP = PREFIX + "gcp-credentials"
BLOCKS = {
    AWS: ("AWSCredentials", "awsCredentials"),
    AZURE: ("AzureCredentials", "azureCredentials"),
    GCP: ("GCPCredentials", "gcpCredentials"),
}
CARRIERS = {AWS: "aws-credentials-file", AZURE: "api-key", GCP: "api-key"}
"""By what kind of static policy the gateway takes each: the bytes on the wire are then the same."""
SUFFIX, NAME_LENGTH = "-credentials", 253
EXPECTED = {
    AWS: "awsCredentials.credentialsFile.secretRef",
    AZURE: "type APIKey with apiKey.secretRef",
    GCP: "type APIKey with apiKey.secretRef",
}


def read_any_form(manifest: Mapping[str, Any], origin: str, defaults: Defaults) -> Policy | InvalidPolicy:
    """Read a policy of either form; see ``policy.read_policy``."""
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    found = [name for name in BLOCKS if isinstance(annotations, dict) and name in annotations]
    if not isinstance(metadata, dict) or not isinstance(annotations, dict) or not found:
        return read_policy(manifest, origin, defaults)
    name = found[0]
    foreign = {key: value for key, value in annotations.items() if not str(key).startswith(PREFIX)}
    carrier = read_policy({**manifest, "metadata": {**metadata, "annotations": foreign}}, origin, defaults)
    wanted = _wanted(manifest, name, origin, defaults)
    problems = _problems(carrier) + _problems(wanted, name) + _form_problems(carrier, wanted, found)
    if problems or isinstance(carrier, InvalidPolicy) or isinstance(wanted, InvalidPolicy):
        return InvalidPolicy(carrier.key, origin, tuple(problems))
    assert isinstance(carrier.source, Static) and carrier.source.secret  # noqa: S101, PT018 - by _form_problems
    path = f"metadata.annotations[{name}]"
    warnings = [warning.replace(f"spec.{BLOCKS[name][1]}", path) for warning in wanted.warnings]
    return replace(
        carrier,
        source=wanted.source,
        data_key=carrier.source.secret.key,
        managed=True,
        warnings=tuple(dict.fromkeys([*carrier.warnings, *warnings])),
    )


def _wanted(manifest: Mapping[str, Any], name: str, origin: str, defaults: Defaults) -> Policy | InvalidPolicy:
    """Read what the annotation holds as if it stood in ``spec``; our other annotations apply to it."""
    metadata, annotations = manifest["metadata"], manifest["metadata"]["annotations"]
    kind, block = BLOCKS[name]
    try:
        content = read_tenant_object(annotations[name])
    except DocumentError as error:
        problem = Problem(f"spec.{block}", error.reason)
        return InvalidPolicy(read_policy(manifest, origin, defaults).key, origin, (problem,))
    rest = {key: value for key, value in annotations.items() if key not in BLOCKS}
    # Under a short name: the limit that the gateway's own name for the Secret sets does not concern this form.
    named = {**metadata, "name": "wanted", "annotations": rest}
    inner = {**manifest, "metadata": named, "spec": {"type": kind, block: content}}
    return read_policy(inner, origin, defaults, managed=True)


def _problems(policy: Policy | InvalidPolicy, annotation: str | None = None) -> list[Problem]:
    """List a reading's problems; those of the annotation's content under the annotation's own path."""
    if isinstance(policy, Policy):
        return []
    if annotation is None:
        return list(policy.problems)
    block = f"spec.{BLOCKS[annotation][1]}"
    inside = [
        problem for problem in policy.problems if problem.path.startswith((block, f"metadata.annotations[{PREFIX}"))
    ]
    return [
        replace(problem, path=problem.path.replace(block, f"metadata.annotations[{annotation}]")) for problem in inside
    ]


def _form_problems(carrier: Policy | InvalidPolicy, wanted: Policy | InvalidPolicy, found: list[str]) -> list[Problem]:
    """Check what the two halves mean together."""
    name = found[0]
    path = f"metadata.annotations[{name}]"
    problems = []
    if len(found) > 1:
        problems.append(Problem(path, f"only one of {' and '.join(found)} can be meant; remove the other"))
    if isinstance(carrier, Policy) and not _carries(carrier, name):
        problems.append(Problem(path, f"the gateway takes this credential from a policy with {EXPECTED[name]}"))
    if isinstance(carrier, Policy) and carrier.secret and carrier.secret.namespace != carrier.key.namespace:
        problems.append(Problem("spec", f"Secret {carrier.secret} must be in the policy's own namespace"))
    if isinstance(wanted, Policy) and not isinstance(wanted.source, Rotatable):
        wanted_of = {AWS: "oidcExchangeToken", AZURE: "oidcExchangeToken or clientSecretRef"}
        fields = wanted_of.get(name, "workloadIdentityFederationConfig or credentialsFile")
        problems.append(Problem(path, f"expected something to rotate: {fields}"))
    return problems


def _carries(carrier: Policy, name: str) -> bool:
    source = carrier.source
    return (
        isinstance(source, Static)
        and source.provider == CARRIERS[name]
        and source.secret is not None
        and source.profile in {None, "default"}
    )


def is_convertible(policy: Policy) -> bool:
    """Tell whether a drop-in policy has a managed form that does the same.

    Google's has not: the gateway adds project and region to the paths of requests for ``gcpCredentials`` alone.
    """
    return isinstance(policy.source, Rotatable) and not policy.provider.startswith("gcp")


def convert(manifest: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Return the managed form of a convertible drop-in policy's manifest; what others keep in it stays."""
    name = AWS if policy.provider.startswith("aws") else AZURE
    _, block = BLOCKS[name]
    spec, metadata = dict(manifest["spec"]), dict(manifest["metadata"])
    content = spec.pop(block)
    carrier = {"secretRef": {"name": f"{policy.key.name[: NAME_LENGTH - len(SUFFIX)].rstrip('-.')}{SUFFIX}"}}
    if name == AWS:
        spec["awsCredentials"] = {"region": content["region"], "credentialsFile": carrier}
    else:
        spec |= {"type": "APIKey", "apiKey": carrier}
    kept = {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata}
    annotations = {
        **(metadata.get("annotations") or {}),
        name: yaml.safe_dump(content, sort_keys=False),
    }
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {**kept, "annotations": annotations},
        "spec": spec,
    }
