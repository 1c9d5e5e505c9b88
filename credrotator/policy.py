"""BackendSecurityPolicy → Policy: every rule about what a policy may say. Pure.

Validation collects everything that is wrong, each with its field path; nothing raises. Follows the gateway's API
(see ``api.py``) and faults.md's input rules: what later enters a URL or a request is checked against a pattern here.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from credrotator import api
from credrotator.durations import parse_duration
from credrotator.errors import printable
from credrotator.model import (
    AwsOidc,
    AzureClientSecret,
    AzureOidc,
    EntraApp,
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    Problem,
    SecretKeyRef,
    Source,
    Static,
    Unsupported,
    generated_secret,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREFIX = "credrotator.io/"
DURATION = PREFIX + "duration"
SUBJECT_TOKEN = PREFIX + "subject-token"
AZURE_AUTHORITY = PREFIX + "azure-authority-host"
AZURE_SCOPE = PREFIX + "azure-scope"
ANNOTATIONS = (DURATION, SUBJECT_TOKEN, AZURE_AUTHORITY, AZURE_SCOPE)

PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
# Scope of Azure OpenAI by national cloud; https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
COGNITIVE_SERVICES = {
    PUBLIC_AUTHORITY: "https://cognitiveservices.azure.com/.default",
    "https://login.microsoftonline.us": "https://cognitiveservices.azure.us/.default",
    "https://login.chinacloudapi.cn": "https://cognitiveservices.azure.cn/.default",
    "https://login.partner.microsoftonline.cn": "https://cognitiveservices.azure.cn/.default",
}

REGION = re.compile(r"[a-z]{2,6}(-[a-z]+)+-\d{1,2}")
ROLE_ARN = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
TENANT = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,252}")
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
DURATION_RANGE = (timedelta(minutes=15), timedelta(hours=12))

MECHANISMS = {
    "APIKey": "apiKey",
    "AWSCredentials": "awsCredentials",
    "AzureAPIKey": "azureAPIKey",
    "AzureCredentials": "azureCredentials",
    "AnthropicAPIKey": "anthropicAPIKey",
    "GCPCredentials": "gcpCredentials",
}
ROUTED = "routes through Envoy, which credrotator does not use; remove it, and set tokenEndpoint if the issuer needs it"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator sets for all policies."""

    namespace: str = "default"
    azure_authority: str = PUBLIC_AUTHORITY
    azure_scope: str | None = None


def read_policy(manifest: Mapping[str, Any], origin: str, defaults: Defaults) -> Policy | InvalidPolicy:
    """Turn one manifest into a Policy, or into everything that is wrong with it.

    Args:
        manifest: The object as parsed from YAML, JSON or the API.
        origin: Where it comes from, for messages.
        defaults: The operator's settings.
    """
    key = _key_of(manifest, defaults.namespace)
    try:
        shape = api.BackendSecurityPolicy.model_validate(manifest)
    except ValidationError as error:
        return InvalidPolicy(key, origin, tuple(_schema_problems(error)))
    reading = _Reading(key, shape, defaults)
    source = reading.source()
    if reading.problems:
        return InvalidPolicy(key, origin, tuple(reading.problems))
    assert source is not None  # noqa: S101 - no source without a problem
    return Policy(
        key=key,
        source=source,
        uid=shape.metadata.uid or str(key),
        api_version=shape.api_version,
        origin=origin,
        secret=_secret_of(key, source),
        targets=tuple(ObjectKey(key.namespace, ref.name) for ref in shape.spec.target_refs),
        warnings=tuple(reading.warnings),
    )


def fingerprint(source: Source) -> str:
    """Hash what a credential depends on: an edit of any of it makes the published credential the wrong one.

    The client secret is no part of it: a new secret for the same client leaves a good credential good.
    """
    facts = asdict(source)
    facts.pop("client_secret", None)
    facts.get("oidc", {}).pop("client_secret", None)
    named = {"provider": source.provider, **facts}
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _key_of(manifest: Mapping[str, Any], namespace: str) -> ObjectKey:
    metadata = manifest.get("metadata")
    fields = metadata if isinstance(metadata, dict) else {}
    return ObjectKey(printable(fields.get("namespace") or namespace), printable(fields.get("name") or "(no name)"))


def _secret_of(key: ObjectKey, source: Source) -> ObjectKey | None:
    match source:
        case Static(secret=ref):
            return ref.secret if ref else None
        case Unsupported():
            return None
    return generated_secret(key)


class _Reading:
    """One policy while it is read: the shape, and the problems and warnings found so far."""

    def __init__(self, key: ObjectKey, shape: api.BackendSecurityPolicy, defaults: Defaults) -> None:
        self.key = key
        self.shape = shape
        self.defaults = defaults
        self.annotations = shape.metadata.annotations
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def source(self) -> Source | None:
        """Check the whole object; None only when there are problems."""
        self._check_version()
        self._check_annotations()
        self._check_mechanisms()
        self.warnings += _unknown_fields(self.shape.spec, "spec")
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

    def _check_version(self) -> None:
        group, _, version = self.shape.api_version.partition("/")
        if group != api.GROUP or version not in api.VERSIONS:
            known = " or ".join(f"{api.GROUP}/{version}" for version in api.VERSIONS)
            self.wrong("apiVersion", f"expected {known}, got {printable(self.shape.api_version)}")

    def _check_annotations(self) -> None:
        for name in self.annotations:
            if name.startswith(PREFIX) and name not in ANNOTATIONS:
                known = ", ".join(ANNOTATIONS)
                self.wrong(f"metadata.annotations[{printable(name)}]", f"unknown to credrotator, which knows {known}")

    def _check_mechanisms(self) -> None:
        """v1beta1 wants exactly the mechanism that the type names; v0.2 accepts others beside it and ignores them."""
        spec = self.shape.spec
        present = [name for name in MECHANISMS.values() if name in spec.model_dump(by_alias=True, exclude_none=True)]
        wanted = MECHANISMS[spec.type]
        if wanted not in present:
            self.wrong(f"spec.{wanted}", f"required with type {spec.type}")
        for name in present:
            if name == wanted:
                continue
            if self.shape.api_version.endswith("/v1alpha1"):
                self.warnings.append(f"spec.{name}: ignored, the type is {spec.type}")
            else:
                self.wrong(f"spec.{name}", f"must not be set with type {spec.type}; remove it or change the type")

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
        if not REGION.fullmatch(block.region):
            self.wrong(f"{path}.region", f"expected an AWS region such as us-east-1, got {printable(block.region)}")
        if block.credentials_file and block.oidc_exchange_token:
            self.wrong(
                path,
                "credentialsFile and oidcExchangeToken are both set: the gateway reads the file, so a rotated "
                "credential would reach nobody; remove one of them",
            )
        if exchange := block.oidc_exchange_token:
            return self._aws_oidc(block.region, exchange, f"{path}.oidcExchangeToken")
        self._refuse_annotation(DURATION, "applies to awsCredentials.oidcExchangeToken only")
        if file := block.credentials_file:
            ref = self._secret_key(file.secret_ref, "credentials", f"{path}.credentialsFile.secretRef")
            return Static("aws-credentials-file", ref, file.profile)
        return Static("aws-default-chain")

    def _aws_oidc(self, region: str, exchange: api.AwsOidcExchange, path: str) -> Source:
        arn = ROLE_ARN.fullmatch(exchange.aws_role_arn)
        if not arn:
            shown = printable(exchange.aws_role_arn)
            self.wrong(f"{path}.awsRoleArn", f"expected arn:aws:iam::<12 digits>:role/<name>, got {shown}")
        elif (partition := partition_of(region)) != arn["partition"]:
            self.wrong(
                f"{path}.awsRoleArn",
                f"is in partition {arn['partition']}, but region {printable(region)} is in {partition}; "
                "a role can be assumed in its own partition only",
            )
        return AwsOidc(self._oidc(exchange, path), exchange.aws_role_arn, region, self._duration())

    def _duration(self) -> timedelta | None:
        text = self.annotations.get(DURATION)
        if text is None:
            return None
        path = f"metadata.annotations[{DURATION}]"
        try:
            duration = parse_duration(text)
        except ValueError as error:
            self.wrong(path, str(error))
            return None
        if not DURATION_RANGE[0] <= duration <= DURATION_RANGE[1]:
            self.wrong(path, f"AWS accepts 15m to 12h, got {printable(text)}")
        return duration

    def _azure(self, block: api.AzureCredentials | None) -> Source | None:
        if block is None:
            return None
        path = "spec.azureCredentials"
        self._refuse_annotation(DURATION, "applies to AWS only")
        if not TENANT.fullmatch(block.tenant_id):
            self.wrong(f"{path}.tenantID", f"expected a tenant id or domain, got {printable(block.tenant_id)}")
        if bool(block.client_secret_ref) == bool(block.oidc_exchange_token):
            self.wrong(path, "expected exactly one of clientSecretRef and oidcExchangeToken")
        app = self._entra_app(block)
        if exchange := block.oidc_exchange_token:
            return AzureOidc(self._oidc(exchange, f"{path}.oidcExchangeToken"), app)
        if ref := block.client_secret_ref:
            return AzureClientSecret(app, self._secret_key(ref, "client-secret", f"{path}.clientSecretRef"))
        return None

    def _entra_app(self, block: api.AzureCredentials) -> EntraApp:
        authority = self._authority(self.annotations.get(AZURE_AUTHORITY))
        scope = self.annotations.get(AZURE_SCOPE) or self.defaults.azure_scope or COGNITIVE_SERVICES.get(authority)
        if scope and not scope.endswith("/.default"):
            self.wrong(
                f"metadata.annotations[{AZURE_SCOPE}]",
                "client credentials need a scope that ends in /.default",
            )
        return EntraApp(block.tenant_id, block.client_id, authority, scope or COGNITIVE_SERVICES[PUBLIC_AUTHORITY])

    def _authority(self, host: str | None) -> str:
        """A policy may name a national cloud; any other authority is the operator's to set (AZURE_AUTHORITY_HOST)."""
        if host is None:
            return self.defaults.azure_authority
        authority = "https://" + host.removeprefix("https://").rstrip("/")
        if authority not in {*COGNITIVE_SERVICES, self.defaults.azure_authority}:
            known = ", ".join(urlsplit(url).netloc for url in COGNITIVE_SERVICES)
            self.wrong(f"metadata.annotations[{AZURE_AUTHORITY}]", f"expected one of {known}, got {printable(host)}")
        return authority

    def _gcp(self, block: api.GcpCredentials | None) -> Source | None:
        if block is None:
            return None
        path = "spec.gcpCredentials"
        if block.credentials_file and block.workload_identity:
            self.wrong(path, "expected at most one of credentialsFile and workloadIdentityFederationConfig")
        if block.workload_identity:
            return Unsupported("gcp-workload-identity", f"{path}.workloadIdentityFederationConfig")
        if block.credentials_file:
            return Unsupported("gcp-service-account", f"{path}.credentialsFile")
        return Static("gcp-default-chain")

    def _oidc(self, exchange: api.OidcExchange, path: str) -> OidcClient:
        oidc, provider = exchange.oidc, exchange.oidc.provider
        if exchange.grant_type not in {None, "", "client_credentials"}:
            shown = printable(exchange.grant_type)
            self.wrong(f"{path}.grantType", f"only client_credentials is supported, got {shown}; remove the field")
        self._check_url(provider.issuer, f"{path}.oidc.provider.issuer")
        if provider.token_endpoint:
            self._check_url(provider.token_endpoint, f"{path}.oidc.provider.tokenEndpoint", query=True)
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
        if bool(oidc.client_id) == bool(oidc.client_id_ref):
            self.wrong(path, "expected exactly one of clientID and clientIDRef")
        if ref := oidc.client_id_ref:
            return self._secret_key(ref, "client-id", f"{path}.clientIDRef")
        return oidc.client_id or ""

    def _wants_id_token(self) -> bool:
        value = self.annotations.get(SUBJECT_TOKEN, "access_token")
        if value not in {"access_token", "id_token"}:
            shown = printable(value)
            self.wrong(f"metadata.annotations[{SUBJECT_TOKEN}]", f"expected access_token or id_token, got {shown}")
        return value == "id_token"

    def _check_url(self, url: str, path: str, *, query: bool = False) -> None:
        """An issuer has no query and no fragment (OIDC Discovery 1.0 §4.1); nobody hides a user name in either."""
        try:
            parts = urlsplit(url)
            sound = parts.scheme in {"https", "http"} and parts.hostname and (parts.port or True)
        except ValueError:
            sound = False
        if not sound or parts.fragment or parts.username is not None or (parts.query and not query):
            self.wrong(path, f"expected an https URL without user name, query or fragment, got {printable(url)}")

    def _refuse_annotation(self, name: str, why: str) -> None:
        if name in self.annotations:
            self.wrong(f"metadata.annotations[{name}]", why)


def partition_of(region: str) -> str:
    """Return the AWS partition that a region belongs to."""
    return next(partition for prefix, partition in PARTITIONS if region.startswith(prefix))


def _schema_problems(error: ValidationError) -> Iterator[Problem]:
    for item in error.errors(include_url=False, include_context=True):
        yield Problem(_path(item["loc"]), _sentence(item["type"], item["msg"], item["input"]))


def _path(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part)}"
    return text.removeprefix(".")


def _sentence(kind: str, message: str, got: object) -> str:
    match kind:
        case "missing":
            return "required field is missing"
        case "string_too_short":
            return "must not be empty"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected an object, got {_kind_of(got)}"
        case "literal_error":
            return f"{message.replace('Input should be', 'expected')}, got {printable(repr(got), 80)}"
        case "string_type" | "list_type":
            return f"{message.replace('Input should be a valid', 'expected a')}, got {_kind_of(got)}"
    return printable(message)


def _kind_of(value: object) -> str:
    names = {type(None): "nothing", dict: "an object", list: "a list", bool: "a boolean", str: "a string"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _unknown_fields(shape: api.Shape, path: str) -> Iterator[str]:
    """Name what the API does not know. A browser log-in's fields of ``oidc`` are known to be of no concern."""
    known = [info.alias or name for name, info in type(shape).model_fields.items()]
    if not isinstance(shape, api.Oidc):
        for name in shape.model_extra or {}:
            close = difflib.get_close_matches(name, known, 1)
            yield f"{path}.{printable(name)}: unknown field" + (f"; did you mean {close[0]}?" if close else "")
    for name, info in type(shape).model_fields.items():
        for index, child in enumerate(_children(getattr(shape, name))):
            suffix = f"[{index}]" if isinstance(getattr(shape, name), list) else ""
            yield from _unknown_fields(child, f"{path}.{info.alias or name}{suffix}")


def _children(value: object) -> list[api.Shape]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, api.Shape)]
