"""BackendSecurityPolicy → Policy: every rule about what a policy may say. Pure.

Validation collects everything that is wrong, each with its field path; nothing raises. What a single field may hold
is ``api.py``'s; what fields mean together is here. Foreign text reaches a message escaped and cut.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from credrotator.core.durations import parse_duration
from credrotator.core.errors import printable
from credrotator.core.model import (
    AwsOidc,
    AzureClientSecret,
    AzureOidc,
    EntraApp,
    GcpPool,
    GcpServiceAccount,
    GcpWorkloadIdentity,
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    Problem,
    SecretKeyRef,
    Source,
    Static,
    TokenFile,
    TokenSource,
    Unsupported,
    backend_key,
    generated_secret,
)
from credrotator.policies import schema as api
from credrotator.policies.messages import (
    MANY,
    choice_problems,
    few,
    instead,
    missing,
    schema_problems,
    suggestion,
    unknown_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "credrotator.io/"
DURATION = PREFIX + "duration"
SUBJECT_TOKEN = PREFIX + "subject-token"
TOKEN_SOURCE = PREFIX + "token-source"
AZURE_AUTHORITY = PREFIX + "azure-authority-host"
AZURE_SCOPE = PREFIX + "azure-scope"
ANNOTATIONS: Mapping[str, tuple[tuple[type[Source], ...], str]] = {
    DURATION: (
        (AwsOidc, GcpWorkloadIdentity),
        "awsCredentials.oidcExchangeToken and to GCP's serviceAccountImpersonation",
    ),
    SUBJECT_TOKEN: ((AwsOidc, AzureOidc, GcpWorkloadIdentity), "oidcExchangeToken"),
    TOKEN_SOURCE: ((AwsOidc, AzureOidc, GcpWorkloadIdentity), "oidcExchangeToken"),
    AZURE_AUTHORITY: ((AzureOidc, AzureClientSecret), "azureCredentials"),
    AZURE_SCOPE: ((AzureOidc, AzureClientSecret), "azureCredentials"),
}
"""Our annotations on a policy, and what each applies to."""

PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
# Scope of Azure OpenAI by national cloud; https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
COGNITIVE_SERVICES = {
    PUBLIC_AUTHORITY: "https://cognitiveservices.azure.com/.default",
    "https://login.microsoftonline.us": "https://cognitiveservices.azure.us/.default",
    "https://login.chinacloudapi.cn": "https://cognitiveservices.azure.cn/.default",
    "https://login.partner.microsoftonline.cn": "https://cognitiveservices.azure.cn/.default",
}

# Longest prefix first; https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
PARTITIONS = (
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-iso-", "aws-iso"),
    ("eusc-", "aws-eusc"),
    ("", "aws"),
)
# STS accepts a quarter of an hour to 12 h; https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
# Google up to 12 h; https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
DURATION_RANGE = (timedelta(minutes=15), timedelta(hours=12))

MECHANISMS = {
    "APIKey": "apiKey",
    "AWSCredentials": "awsCredentials",
    "AzureAPIKey": "azureAPIKey",
    "AzureCredentials": "azureCredentials",
    "AnthropicAPIKey": "anthropicAPIKey",
    "GCPCredentials": "gcpCredentials",
}
SERVED = tuple(f"{api.GROUP}/{version}" for version in api.VERSIONS)
SPEC_FIELDS = {info.alias or name for name, info in api.Spec.model_fields.items()}
NAME_LIMIT = 253
_NEWER_VERSION = re.compile(rf"{re.escape(api.GROUP)}/v[0-9]+((alpha|beta)[0-9]+)?")
_NEWER_TYPE = re.compile(r"[A-Z][A-Za-z0-9]{3,62}")
_SLIP = 0.85
ROUTED = "routes through Envoy, which credrotator does not use; remove it, and set tokenEndpoint if the issuer needs it"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator sets for all policies."""

    namespace: str = "default"
    azure_authority: str = PUBLIC_AUTHORITY
    azure_scope: str | None = None


def read_policy(
    manifest: Mapping[str, Any], origin: str, defaults: Defaults, *, managed: bool = False
) -> Policy | InvalidPolicy:
    """Turn one manifest into a Policy, or into everything that is wrong with it.

    Args:
        manifest: The object as parsed from YAML, JSON or the API.
        origin: Where it comes from, for messages.
        defaults: The operator's settings.
        managed: The gateway does not see it like this, so that it may say what the gateway's rotator cannot do.
    """
    key = _key_of(manifest, defaults.namespace)
    if (why := unsupported(manifest)) and not key.name.startswith("("):
        return _unsupported(manifest, key, origin, why)
    try:
        shape = api.BackendSecurityPolicy.model_validate(manifest)
    except ValidationError as error:
        problems = [*schema_problems(error), *_whole_problems(manifest)]
        return InvalidPolicy(key, origin, few(problems))
    reading = _Reading(key, shape, defaults, managed=managed)
    source = reading.source()
    problems = [*_whole_problems(manifest), *reading.problems]
    if source is None or problems:
        return InvalidPolicy(key, origin, few(problems))
    return Policy(
        key=key,
        source=source,
        uid=shape.metadata.uid or str(key),
        api_version=shape.api_version,
        origin=origin,
        secret=_secret_of(key, source),
        targets=tuple(backend_key(key.namespace, ref.kind, ref.name) for ref in shape.spec.target_refs),
        warnings=tuple(islice(reading.warnings, MANY)),
    )


def unsupported(manifest: Mapping[str, Any]) -> str | None:
    """Say what of a policy only a newer gateway knows; None where a mistake is likelier, or all is known.

    Such a policy is left alone: to call it wrong would be wrong as soon as the gateway is newer than we are.
    """
    version, spec = manifest.get("apiVersion"), manifest.get("spec")
    fields: Mapping[str, Any] = spec if isinstance(spec, dict) else {}
    if isinstance(version, str) and _NEWER_VERSION.fullmatch(version) and version not in SERVED:
        return f"apiVersion {printable(version, 80)}"
    kind = fields.get("type")
    if isinstance(kind, str) and kind not in MECHANISMS:
        known_block = any(fields.get(block) is not None for block in MECHANISMS.values())
        slip = difflib.get_close_matches(kind[:80], MECHANISMS, 1, _SLIP)
        return f"type {kind}" if _NEWER_TYPE.fullmatch(kind) and not known_block and not slip else None
    block = MECHANISMS.get(str(kind), "")
    inner = fields.get(block)
    own = [name for name in api.NOT_OURS.get(block, ()) if isinstance(inner, dict) and inner.get(name) is True]
    return f"spec.{block}.{own[0]}" if own else None


def _unsupported(manifest: Mapping[str, Any], key: ObjectKey, origin: str, why: str) -> Policy:
    metadata = manifest.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return Policy(
        key=key,
        source=Unsupported("unknown"),
        uid=uid if isinstance(uid, str) and uid else str(key),
        api_version=str(manifest.get("apiVersion")),
        origin=origin,
        secret=None,
        warnings=(f"{why} is not known to this version of credrotator, so the policy is left alone",),
    )


def fingerprint(source: Source) -> str:
    """Hash what a credential depends on: an edit of any of it makes the published credential the wrong one.

    The client secret is no part of it: a new secret for the same client leaves a good credential good. Where a key
    file lies is: another file is another account's, most likely.
    """
    facts = asdict(source)
    facts.pop("client_secret", None)
    facts.get("oidc", {}).pop("client_secret", None)
    named = {"provider": source.provider, **facts}
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _key_of(manifest: Mapping[str, Any], namespace: str) -> ObjectKey:
    """Name the object; what is no Kubernetes name never becomes a key, because keys become names of files."""
    metadata = manifest.get("metadata")
    fields = metadata if isinstance(metadata, dict) else {}
    name, own = fields.get("name"), fields.get("namespace")
    if name is None or name == "":
        name = "(no name)"
    elif not isinstance(name, str) or not api.NAME.fullmatch(name):
        name = "(no valid name)"
    if own is None or not isinstance(own, str) or not api.NAMESPACE.fullmatch(own):
        own = namespace
    return ObjectKey(own, name)


def _secret_of(key: ObjectKey, source: Source) -> ObjectKey | None:
    match source:
        case Static(secret=ref):
            return ref.secret if ref else None
    return generated_secret(key)


def _whole_problems(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Check what can be seen without a sound shape, so that it is reported beside the shape's own problems."""
    version, metadata, spec = (manifest.get(name) for name in ("apiVersion", "metadata", "spec"))
    if isinstance(version, str) and version and version not in SERVED:
        yield Problem("apiVersion", f"expected {' or '.join(SERVED)}, got {printable(version, 80)}")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if isinstance(annotations, dict):
        for name in annotations:
            if isinstance(name, str) and name.startswith(PREFIX) and name not in ANNOTATIONS:
                known = suggestion(name, ANNOTATIONS) or f"; known are {', '.join(ANNOTATIONS)}"
                yield Problem(_annotation(name), f"unknown to credrotator{known}")
    fields = spec if isinstance(spec, dict) else {}
    kind = fields.get("type")
    if isinstance(kind, str) and kind in MECHANISMS:
        alpha, block = version == SERVED[0], MECHANISMS[kind]
        yield from _mechanism_problems(fields, block, kind, strict=not alpha)
        yield from choice_problems({block: fields.get(block)}, api.Spec, "spec", alpha=alpha)


def _mechanism_problems(spec: Mapping[str, Any], wanted: str, kind: str, *, strict: bool) -> Iterator[Problem]:
    """v1beta1 wants exactly the mechanism that the type names; v0.2 accepts others beside it and ignores them."""
    if spec.get(wanted) is None:
        unknown = [name[:80] for name in islice(spec, MANY) if name not in SPEC_FIELDS]
        meant = difflib.get_close_matches(wanted, unknown, 1)
        yield Problem(f"spec.{wanted}", f"required with type {kind}" + instead(meant))
    for name in MECHANISMS.values() if strict else ():
        if name != wanted and spec.get(name) is not None:
            yield Problem(f"spec.{name}", f"must not be set with type {kind}; remove it or change the type")


def _annotation(name: str) -> str:
    return f"metadata.annotations[{printable(name, 80)}]"


class _Reading:
    """One policy while it is read: the shape, and the problems and warnings found so far."""

    def __init__(self, key: ObjectKey, shape: api.BackendSecurityPolicy, defaults: Defaults, *, managed: bool) -> None:
        self.managed = managed
        self.key = key
        self.shape = shape
        self.defaults = defaults
        self.annotations = shape.metadata.annotations
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def source(self) -> Source | None:
        """Check what fields mean together; None only where the mechanism of the type is not there."""
        self._check_targets()
        self._warn()
        source = self._mechanism()
        if source is not None:
            self._check_annotations(source)
            self._check_names(source)
        return source

    def _mechanism(self) -> Source | None:
        spec = self.shape.spec
        match spec.type:
            case "APIKey":
                return self._api_key("api-key", spec.api_key, "spec.apiKey")
            case "AzureAPIKey":
                return self._api_key("azure-api-key", spec.azure_api_key, "spec.azureAPIKey")
            case "AnthropicAPIKey":
                return self._api_key("anthropic-api-key", spec.anthropic_api_key, "spec.anthropicAPIKey")
            case "AWSCredentials":
                return self._aws(spec.aws_credentials)
            case "AzureCredentials":
                return self._azure(spec.azure_credentials)
            case "GCPCredentials":
                return self._gcp(spec.gcp_credentials)

    def _warn(self) -> None:
        spec = self.shape.spec
        wanted = MECHANISMS[spec.type]
        for name, info in api.Spec.model_fields.items():
            if info.alias in MECHANISMS.values() and info.alias != wanted and getattr(spec, name) is not None:
                self.warnings.append(f"spec.{info.alias}: ignored, the type is {spec.type}")
        self.warnings += unknown_fields(spec, "spec")

    def _check_targets(self) -> None:
        groups = {"AIServiceBackend": api.GROUP, "InferencePool": api.INFERENCE_GROUP}
        for index, ref in enumerate(self.shape.spec.target_refs):
            if ref.group != groups[ref.kind]:
                shown = printable(ref.group, 80)
                self.wrong(
                    f"spec.targetRefs[{index}].group", f"expected {groups[ref.kind]} for {ref.kind}, got {shown}"
                )

    def _check_annotations(self, source: Source) -> None:
        for name, (sources, where) in ANNOTATIONS.items():
            if name in self.annotations and not isinstance(source, sources):
                self.wrong(_annotation(name), f"applies to {where} only; remove it")

    def _check_names(self, source: Source) -> None:
        """The namespace may be the operator's default; the name has to leave room for the generated Secret's."""
        if not api.NAMESPACE.fullmatch(self.key.namespace):
            shown = printable(self.key.namespace, 80)
            self.wrong("metadata.namespace", f"the default namespace is no Kubernetes namespace: {shown}")
        secret = _secret_of(self.key, source)
        if secret and secret.name != self.key.name and not api.NAME.fullmatch(secret.name):
            room = NAME_LIMIT - len(generated_secret(ObjectKey("", "")).name)
            self.wrong(
                "metadata.name",
                f"has {len(self.key.name)} characters; at most {room} leave room for the name of the Secret that the "
                f"gateway reads, {generated_secret(ObjectKey('', '')).name}<name>",
            )

    def _secret_key(self, ref: api.SecretRef, key: str, path: str) -> SecretKeyRef:
        return SecretKeyRef(ObjectKey(ref.namespace or self.key.namespace, ref.name), key, path)

    def _api_key(self, provider: str, block: api.KeySecret | None, path: str) -> Source | None:
        if block is None:
            return None
        return Static(provider, self._secret_key(block.secret_ref, "apiKey", f"{path}.secretRef"))

    def _aws(self, block: api.AwsCredentials | None) -> Source | None:
        if block is None:
            return None
        path = "spec.awsCredentials"
        if exchange := block.oidc_exchange_token:
            return self._aws_oidc(block.region, exchange, f"{path}.oidcExchangeToken")
        if file := block.credentials_file:
            ref = self._secret_key(file.secret_ref, "credentials", f"{path}.credentialsFile.secretRef")
            return Static("aws-credentials-file", ref, file.profile)
        return Static("aws-default-chain")

    def _aws_oidc(self, region: str, exchange: api.AwsOidcExchange, path: str) -> Source:
        own, partition = exchange.aws_role_arn.split(":")[1], partition_of(region)
        if partition != own:
            self.wrong(
                f"{path}.awsRoleArn",
                f"is in partition {own}, but region {region} is in {partition}; "
                "a role can be assumed in its own partition only",
            )
        return AwsOidc(self._oidc(exchange, path), exchange.aws_role_arn, region, self._duration())

    def _duration(self) -> timedelta | None:
        text = self.annotations.get(DURATION)
        if text is None:
            return None
        path = _annotation(DURATION)
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

    def _azure(self, block: api.AzureCredentials | None) -> Source | None:
        if block is None:
            return None
        path = "spec.azureCredentials"
        app = self._entra_app(block)
        if exchange := block.oidc_exchange_token:
            return AzureOidc(self._oidc(exchange, f"{path}.oidcExchangeToken"), app)
        if ref := block.client_secret_ref:
            return AzureClientSecret(app, self._secret_key(ref, "client-secret", f"{path}.clientSecretRef"))
        return None

    def _entra_app(self, block: api.AzureCredentials) -> EntraApp:
        authority = self._authority(self.annotations.get(AZURE_AUTHORITY))
        own = self.annotations.get(AZURE_SCOPE)
        scope = own or self.defaults.azure_scope or COGNITIVE_SERVICES.get(authority)
        if scope and not scope.endswith("/.default"):
            path = _annotation(AZURE_SCOPE) if own else "--azure-scope"
            shown = printable(scope, 80)
            self.wrong(path, f"client credentials need a scope that ends in /.default, got {shown}")
        return EntraApp(block.tenant_id, block.client_id, authority, scope or COGNITIVE_SERVICES[PUBLIC_AUTHORITY])

    def _authority(self, host: str | None) -> str:
        """A policy may name a national cloud; any other authority is the operator's to set (AZURE_AUTHORITY_HOST)."""
        if host is None:
            return self.defaults.azure_authority
        authority = "https://" + host.removeprefix("https://").rstrip("/")
        if authority not in {*COGNITIVE_SERVICES, self.defaults.azure_authority}:
            known = ", ".join(urlsplit(url).netloc for url in COGNITIVE_SERVICES)
            self.wrong(_annotation(AZURE_AUTHORITY), f"expected one of {known}, got {printable(host, 80)}")
        return authority

    def _gcp(self, block: api.GcpCredentials | None) -> Source | None:
        if block is None:
            return None
        path = "spec.gcpCredentials"
        if federation := block.workload_identity:
            return self._gcp_federation(block, federation, f"{path}.workloadIdentityFederationConfig")
        if file := block.credentials_file:
            ref = self._secret_key(file.secret_ref, "service_account.json", f"{path}.credentialsFile.secretRef")
            return GcpServiceAccount(ref)
        return Static("gcp-default-chain")

    def _gcp_federation(self, block: api.GcpCredentials, federation: api.GcpWorkloadIdentity, path: str) -> Source:
        duration, email = self._duration(), None
        if federation.impersonation:
            # "example.com:project" is "project.example.com" in addresses, as Google has it for such projects.
            domain, _, project = block.project_name.rpartition(":")
            host = f"{project}.{domain}" if domain else project
            email = f"{federation.impersonation.service_account_name}@{host}.iam.gserviceaccount.com"
        elif duration:
            where = "Google lets the life of a service account's token be chosen, and only that"
            self.wrong(_annotation(DURATION), f"{where}; remove it, or set {path}.serviceAccountImpersonation")
        return GcpWorkloadIdentity(
            self._oidc(federation.oidc_exchange_token, f"{path}.oidcExchangeToken"),
            GcpPool(federation.project_id, federation.pool_name, federation.provider_name),
            block.project_name,
            block.region,
            email,
            duration,
        )

    def _oidc(self, exchange: api.OidcExchange, path: str) -> TokenSource:
        if exchange.grant_type not in {None, "", "client_credentials"}:
            shown = printable(exchange.grant_type, 80)
            self.wrong(f"{path}.grantType", f"only client_credentials is supported, got {shown}; remove the field")
        if (name := self.annotations.get(TOKEN_SOURCE)) is not None:
            return self._token_file(name, exchange, path)
        if exchange.oidc is None:
            self.wrong(f"{path}.oidc", missing("oidc", exchange.model_extra))
            return TokenFile("")
        return self._oidc_client(exchange, exchange.oidc, path)

    def _token_file(self, name: str, exchange: api.OidcExchange, path: str) -> TokenFile:
        where = _annotation(TOKEN_SOURCE)
        if not self.managed:
            self.wrong(
                where, "applies to the managed form only: the gateway's rotator needs a client secret; remove it"
            )
        if not api.NAMESPACE.fullmatch(name):
            self.wrong(where, f"expected the name of a token file that the operator allows, got {printable(name, 80)}")
        if SUBJECT_TOKEN in self.annotations:
            self.wrong(
                _annotation(SUBJECT_TOKEN), f"is about an issuer's response, {TOKEN_SOURCE} about a file; remove one"
            )
        if exchange.oidc is not None:
            self.wrong(f"{path}.oidc", f"must not be set beside {TOKEN_SOURCE}: remove one of them")
        return TokenFile(name, exchange.aud or None)

    def _oidc_client(self, exchange: api.OidcExchange, oidc: api.Oidc, path: str) -> OidcClient:
        provider = oidc.provider
        for name in ("backend_ref", "backend_refs", "backend_settings"):
            if getattr(provider, name):
                alias = api.OidcProvider.model_fields[name].alias
                self.wrong(f"{path}.oidc.provider.{alias}", ROUTED)
        return OidcClient(
            issuer=provider.issuer,
            client_id=self._client_id(oidc, f"{path}.oidc"),
            client_secret=self._secret_key(oidc.client_secret, "client-secret", f"{path}.oidc.clientSecret"),
            token_endpoint=provider.token_endpoint,
            scopes=tuple(oidc.scopes),
            resources=tuple(oidc.resources),
            audience=exchange.aud or None,
            subject_token="id_token" if self._wants_id_token() else "access_token",
        )

    def _client_id(self, oidc: api.Oidc, path: str) -> str | SecretKeyRef:
        if ref := oidc.client_id_ref:
            return self._secret_key(ref, "client-id", f"{path}.clientIDRef")
        return oidc.client_id or ""

    def _wants_id_token(self) -> bool:
        value = self.annotations.get(SUBJECT_TOKEN, "access_token")
        if value not in {"access_token", "id_token"}:
            self.wrong(_annotation(SUBJECT_TOKEN), f"expected access_token or id_token, got {printable(value, 80)}")
        return value == "id_token"


def partition_of(region: str) -> str:
    """Return the AWS partition that a region belongs to."""
    return next(partition for prefix, partition in PARTITIONS if region.startswith(prefix))
