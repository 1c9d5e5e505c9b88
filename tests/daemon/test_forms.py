"""The managed form: read with every mistake and its path, and the way there from the gateway's own form."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import (
    ClientKey,
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    RotatablePolicy,
    SecretKeyRef,
    ServiceAccountToken,
    Static,
    TokenFile,
    fingerprint,
)
from credrotator.policies.annotations import PREFIX
from credrotator.policies.reader import Defaults
from credrotator.providers.aws.source import AwsOidc, ChainedRole
from credrotator.providers.azure.source import AzureOidc
from credrotator.providers.gcp.source import GcpWorkloadIdentity
from tests.support.builders import (
    AWS,
    AZURE,
    GCP,
    V1ALPHA1,
    V1BETA1,
    Manifest,
    annotated,
    aws,
    azure,
    azure_secret,
    changed,
    convert,
    gcp,
    gcp_key,
    is_convertible,
    oidc,
    policy,
    read_any_form,
)

FORMS = {"aws": aws, "azure": azure, "azure by secret": azure_secret}
ANNOTATION = f"metadata.annotations[{AWS}]"
CHAIN, SECOND = PREFIX + "role-chain", "arn:aws:iam::210987654321:role/shared"
CLIENT_ASSERTION = PREFIX + "client-assertion"
ISSUER = oidc()["provider"]["issuer"]


def key_of(name: str) -> SecretKeyRef:
    """Refer to a key of the Secret with a client's own key."""
    return SecretKeyRef(ObjectKey("team-a", "client-key"), name, f"metadata.annotations[{CLIENT_ASSERTION}]")


def read(manifest: Manifest) -> Policy | InvalidPolicy:
    """Read a policy of either form."""
    return read_any_form(manifest, "policy.yaml:1", Defaults())


def valid(manifest: Manifest) -> RotatablePolicy:
    """Read a policy that has to be sound."""
    found = read(manifest)
    assert isinstance(found, RotatablePolicy), found
    return found


def problems(manifest: Manifest) -> dict[str, str]:
    """Read a policy that has to be refused; return messages by path."""
    found = read(manifest)
    assert isinstance(found, InvalidPolicy), found
    assert found.problems, "refused without a reason"
    assert found.key == ObjectKey("team-a", manifest["metadata"]["name"])
    return {problem.path: problem.message for problem in found.problems}


def managed(content: Any = None, name: str = AWS, **annotations: str) -> Manifest:
    """A managed policy of AWS; ``content`` is what its annotation holds."""
    exchange = {"awsRoleArn": "arn:aws:iam::123456789012:role/bedrock", "oidc": oidc()}
    block = {"region": "us-east-1", "oidcExchangeToken": exchange} if content is None else content
    found = carrier(name)
    text = block if isinstance(block, str) else json.dumps(block)
    found["metadata"]["annotations"] = {name: text, **annotations}
    return found


def carrier(name: str = AWS) -> Manifest:
    """What the gateway sees of a managed policy."""
    if name == AWS:
        file = {"secretRef": {"name": "published"}}
        return policy(
            "bedrock", {"type": "AWSCredentials", "awsCredentials": {"region": "us-east-1", "credentialsFile": file}}
        )
    return policy("openai", {"type": "APIKey", "apiKey": {"secretRef": {"name": "published"}}})


class TestReading:
    """What a managed policy means."""

    def test_aws(self) -> None:
        """Rotated as the annotation says, into the Secret and key that the gateway reads."""
        found = valid(managed())
        assert found.managed
        assert (found.provider, found.secret, found.data_key) == (
            "aws-oidc",
            ObjectKey("team-a", "published"),
            "credentials",
        )
        assert fingerprint(found.source) == fingerprint(valid(changed(aws(), AUD, ...)).source)

    @pytest.mark.parametrize("form", [azure, azure_secret])
    def test_azure(self, form: Any) -> None:
        """Entra's token lies where an API key would; the bytes on the wire are the same."""
        found = valid(managed(form()["spec"]["azureCredentials"], AZURE))
        assert (found.secret, found.data_key) == (ObjectKey("team-a", "published"), "apiKey")
        assert found.source == valid(form()).source

    @pytest.mark.parametrize("form", [gcp, gcp_key])
    def test_gcp(self, form: Any) -> None:
        """Google's token lies where an API key would, for backends whose paths need no project and region added."""
        found = valid(managed(form()["spec"]["gcpCredentials"], GCP))
        assert (found.secret, found.data_key) == (ObjectKey("team-a", "published"), "apiKey")
        assert found.source == valid(form()).source

    @pytest.mark.parametrize("name", [AWS, AZURE, GCP])
    def test_a_token_file(self, name: str) -> None:
        """G27: with a token of the operator's there is no issuer and no client secret; ``aud`` is whom it is for."""
        found = valid(managed(without_oidc(name, aud="x"), name, **TOKEN_SOURCE))
        assert isinstance(found.source, AwsOidc | AzureOidc | GcpWorkloadIdentity)
        assert found.source.oidc == TokenFile("pod", "x")
        by_client = valid(managed(BLOCKS_OF[name], name))
        assert fingerprint(found.source) != fingerprint(by_client.source)
        other = valid(managed(without_oidc(name), name, **TOKEN_SOURCE))
        assert fingerprint(found.source) != fingerprint(other.source)

    @pytest.mark.parametrize("value", ["/var/run/token", "../token", "Pod", "", "a/b", "a" * 64])
    def test_a_token_file_by_its_path(self, value: str) -> None:
        """A policy may name what the operator named, never a file."""
        found = problems(managed(without_oidc(AWS), **{PREFIX + "token-source": value}))
        assert "the name of a token file" in found[f"metadata.annotations[{PREFIX}token-source]"]

    def test_a_token_file_beside_an_issuer(self) -> None:
        """Which is meant, nobody can tell; both fields are named."""
        found = problems(managed(BLOCKS_OF[AWS], **TOKEN_SOURCE, **{PREFIX + "subject-token": "id_token"}))
        assert "must not be set beside credrotator.io/token-source" in found[f"{ANNOTATION}.oidcExchangeToken.oidc"]
        assert "about a file" in found[f"metadata.annotations[{PREFIX}subject-token]"]

    def test_a_token_file_in_the_gateways_own_form(self) -> None:
        """There the gateway's rotator stands by, which needs a client secret."""
        manifest = changed(aws(), "metadata.annotations", TOKEN_SOURCE)
        found = problems(manifest)
        assert "managed form only" in found[f"metadata.annotations[{PREFIX}token-source]"]

    def test_a_token_file_for_nothing(self) -> None:
        """A client secret of Azure's, or a key file of Google's, needs no token."""
        found = problems(managed(azure_secret()["spec"]["azureCredentials"], AZURE, **TOKEN_SOURCE))
        assert "applies to oidcExchangeToken only" in found[f"metadata.annotations[{PREFIX}token-source]"]

    @pytest.mark.parametrize(
        ("name", "audience"),
        [
            (AWS, "sts.amazonaws.com"),
            (AZURE, "api://AzureADTokenExchange"),
            (GCP, "//iam.googleapis.com/projects/"),
        ],
    )
    def test_a_service_account(self, name: str, audience: str) -> None:
        """No issuer and no client secret; the audience is the policy's, else what the vendor expects."""
        found = valid(managed(without_oidc(name), name, **SERVICE_ACCOUNT))
        assert isinstance(found.source, AwsOidc | AzureOidc | GcpWorkloadIdentity)
        assert isinstance(found.source.oidc, ServiceAccountToken)
        assert found.source.oidc.name == "bedrock"
        assert found.source.oidc.audience.startswith(audience)
        assert not found.references
        own = valid(managed(without_oidc(name, aud="x"), name, **SERVICE_ACCOUNT))
        assert isinstance(own.source, AwsOidc | AzureOidc | GcpWorkloadIdentity)
        assert own.source.oidc == ServiceAccountToken("bedrock", "x")
        assert fingerprint(own.source) != fingerprint(found.source)

    @pytest.mark.parametrize("value", ["Bedrock", "", "team-b/bedrock", "../x", "a" * 254])
    def test_a_service_account_of_elsewhere(self, value: str) -> None:
        """A policy names an account of its own namespace, so there is nothing but a name to be written."""
        found = problems(managed(without_oidc(AWS), **{PREFIX + "service-account": value}))
        assert "service account in the policy's namespace" in found[f"metadata.annotations[{PREFIX}service-account]"]

    def test_a_service_account_beside_others(self) -> None:
        """Which is meant, nobody can tell; each other place for a token is named."""
        found = problems(managed(BLOCKS_OF[AWS], **SERVICE_ACCOUNT, **{PREFIX + "subject-token": "id_token"}))
        assert "must not be set beside credrotator.io/service-account" in found[f"{ANNOTATION}.oidcExchangeToken.oidc"]
        assert "about a service account" in found[f"metadata.annotations[{PREFIX}subject-token]"]
        both = problems(managed(without_oidc(AWS), **SERVICE_ACCOUNT, **TOKEN_SOURCE))
        assert "remove one" in both[f"metadata.annotations[{PREFIX}service-account]"]

    def test_a_service_account_in_the_gateways_own_form(self) -> None:
        """There the gateway's rotator stands by, which needs a client secret."""
        found = problems(changed(aws(), "metadata.annotations", SERVICE_ACCOUNT))
        assert "managed form only" in found[f"metadata.annotations[{PREFIX}service-account]"]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("service-account/gateway", ServiceAccountToken("gateway", ISSUER)),
            ("token-file/pod", TokenFile("pod", ISSUER)),
            ("secret/client-key", ClientKey(key_of("private-key"), key_of("key-id"))),
        ],
    )
    def test_a_client_assertion(self, value: str, expected: Any) -> None:
        """The client needs no secret then, and the managed form none of its fields; the credential is the same one."""
        block = copy.deepcopy(BLOCKS_OF[AWS])
        del block["oidcExchangeToken"]["oidc"]["clientSecret"]
        found = valid(managed(block, **{CLIENT_ASSERTION: value}))
        assert isinstance(found.source, AwsOidc)
        assert isinstance(found.source.oidc, OidcClient)
        assert (found.source.oidc.assertion, found.source.oidc.client_secret) == (expected, None)
        named = [ref.key for ref in found.references]
        assert named == (["private-key", "key-id"] if value.startswith("secret") else [])
        assert fingerprint(found.source) == fingerprint(valid(managed(BLOCKS_OF[AWS])).source)

    def test_a_client_assertion_in_the_gateways_own_form(self) -> None:
        """The gateway's definition requires a client secret, which is not read."""
        found = valid(changed(aws(), "metadata.annotations", {CLIENT_ASSERTION: "service-account/gateway"}))
        assert not found.references
        without = changed(aws(), "spec.awsCredentials.oidcExchangeToken.oidc.clientSecret", ...)
        without["metadata"]["annotations"] = {CLIENT_ASSERTION: "service-account/gateway"}
        assert problems(without)["spec.awsCredentials.oidcExchangeToken.oidc.clientSecret"] == (
            "required field is missing"
        )

    @pytest.mark.parametrize("value", ["", "gateway", "service-account/", "secret/A", "file/x", "secret/a/b"])
    def test_a_client_assertion_of_no_kind(self, value: str) -> None:
        """What there is to choose from is said."""
        found = problems(managed(BLOCKS_OF[AWS], **{CLIENT_ASSERTION: value}))
        assert "expected service-account/NAME or token-file/NAME" in found[f"metadata.annotations[{CLIENT_ASSERTION}]"]

    def test_security_3_a_token_file_for_a_server_of_the_authors(self) -> None:
        """Security 3: the operator's token goes to the issuer that it is for, and not where a policy has it sent."""
        block = copy.deepcopy(BLOCKS_OF[AWS])
        provider = block["oidcExchangeToken"]["oidc"]["provider"]
        provider["tokenEndpoint"] = "https://elsewhere.example/token"
        field = f"{ANNOTATION}.oidcExchangeToken.oidc.provider.tokenEndpoint"
        assert field in problems(managed(block, **{CLIENT_ASSERTION: "token-file/pod"}))
        provider["tokenEndpoint"] = f"{ISSUER}/token"
        valid(managed(block, **{CLIENT_ASSERTION: "token-file/pod"}))

    def test_a_client_assertion_for_nothing(self) -> None:
        """Without an issuer's client there is nothing to prove."""
        found = problems(managed(without_oidc(AWS), **SERVICE_ACCOUNT, **{CLIENT_ASSERTION: "secret/x"}))
        assert "applies to oidcExchangeToken.oidc only" in found[f"metadata.annotations[{CLIENT_ASSERTION}]"]

    @pytest.mark.parametrize("form", ["managed", "drop-in"])
    def test_a_role_chain(self, form: str) -> None:
        """Beside AWS's block in either form; tags are sorted, and a session policy is written without blanks."""
        role = {"roleArn": SECOND, "externalID": "ours:42", "sessionTags": {"b": "2", "a": "1"}, "sourceIdentity": "me"}
        policies = ({"Version": "1", "Statement": []}, '{"Version": "1", "Statement": []}')
        for narrowing in policies:
            text = json.dumps([{**role, "sessionPolicy": narrowing}, {"roleArn": SECOND}])
            manifest = managed(**{CHAIN: text}) if form == "managed" else aws()
            manifest["metadata"].setdefault("annotations", {})[CHAIN] = text
            found = valid(manifest).source
            assert isinstance(found, AwsOidc)
            first = ChainedRole(SECOND, "ours:42", (("a", "1"), ("b", "2")), '{"Version":"1","Statement":[]}', "me")
            assert found.chain == (first, ChainedRole(SECOND))

    @pytest.mark.parametrize(
        ("content", "field", "message"),
        [
            ("{}", "", "expected a list"),
            ("[", "", "not readable"),
            ("[]", "", "at least 1"),
            ("[{}]", "[0].roleArn", "required"),
            ([{"roleArn": "arn:aws:iam::1:role/x"}], "[0].roleArn", "expected arn:aws:iam::<12 digits>"),
            ([{"roleArn": "arn:aws-cn:iam::123456789012:role/x"}], "[0].roleArn", "in partition aws-cn"),
            ([{"roleArn": None, "externalID": "x y"}], "[0].externalID", "expected 2 to 1224"),
            ([{"roleArn": None, "sessionTags": {"aws:x": "y"}}], "[0].sessionTags", "a tag's key"),
            ([{"roleArn": None, "sessionPolicy": "{"}], "[0].sessionPolicy", "expected an IAM policy"),
            ([{"roleArn": None, "sessionPolicy": {"Statement": "x" * 2048}}], "[0].sessionPolicy", "2048 at most"),
            ([{"roleArn": None, "sourceIdentity": "x"}], "[0].sourceIdentity", "expected 2 to 64"),
            ([{"roleArn": None, "externalId": "xx"}], "[0].externalId", "did you mean externalID"),
            ([{"roleArn": None}] * 5, "", "at most 4"),
        ],
    )
    def test_a_wrong_role_chain(self, content: Any, field: str, message: str) -> None:
        """Each problem has its field; an unknown one is a problem too, for it would be left out in silence."""
        roles = (
            [{**role, "roleArn": role["roleArn"] or SECOND} for role in content] if isinstance(content, list) else []
        )
        found = problems(managed(**{CHAIN: json.dumps(roles) if roles else content}))
        where = [path for path in found if path.startswith(f"metadata.annotations[{CHAIN}]{field}")]
        assert any(message in found[path] for path in where), found

    def test_how_long_a_chained_role_lives(self) -> None:
        """AWS gives an hour at most, so a longer wish is told before it is sent."""
        chain = {CHAIN: json.dumps([{"roleArn": SECOND}])}
        assert (
            "at most 1h"
            in problems(managed(**chain, **{PREFIX + "duration": "2h"}))[f"metadata.annotations[{PREFIX}duration]"]
        )
        valid(managed(**chain, **{PREFIX + "duration": "1h"}))
        azure = problems(managed(BLOCKS_OF[AZURE], AZURE, **chain))
        assert "applies to awsCredentials.oidcExchangeToken and to" in azure[f"metadata.annotations[{CHAIN}]"]

    def test_neither_issuer_nor_token_file(self) -> None:
        """Without the annotation ``oidc`` is required, as the API has it; what may have been meant is said."""
        block = without_oidc(AWS)
        assert problems(managed(block))[f"{ANNOTATION}.oidcExchangeToken.oidc"] == "required field is missing"
        block["oidcExchangeToken"]["odic"] = oidc()
        assert "there is odic" in problems(managed(block))[f"{ANNOTATION}.oidcExchangeToken.oidc"]

    def test_yaml_and_json(self) -> None:
        """Both are taken, and mean the same."""
        block = aws()["spec"]["awsCredentials"]
        assert valid(managed(yaml.safe_dump(block))) == valid(managed(json.dumps(block)))

    def test_our_other_annotations_apply(self) -> None:
        """What refines an exchange refines this one too."""
        found = valid(managed(**{PREFIX + "duration": "30m"}))
        assert "30" not in fingerprint(found.source)
        assert fingerprint(found.source) != fingerprint(valid(managed()).source)

    def test_the_gateways_own_form(self) -> None:
        """Without an annotation of ours nothing changes."""
        for form in FORMS.values():
            assert not valid(form()).managed
        static = read(carrier())
        assert isinstance(static, Policy)
        assert isinstance(static.source, Static)

    def test_annotations_of_others(self) -> None:
        """They say nothing to us."""
        assert valid(managed(**{"example.com/x": "y"})).source == valid(managed()).source

    def test_warnings_are_kept(self) -> None:
        """Of both halves: an unknown field in the annotation is named there."""
        block = aws()["spec"]["awsCredentials"] | {"regoin": "x"}
        (warning,) = valid(managed(block)).warnings
        assert "regoin" in warning
        assert ANNOTATION in warning

    def test_long_names(self) -> None:
        """The gateway's own name for a Secret, and with it its limit, does not concern this form."""
        assert valid(changed(managed(), "metadata.name", "x" * 253)).managed


AUD = "spec.awsCredentials.oidcExchangeToken.aud"


class TestMistakes:
    """Everything that can be wrong, under the path where it stands."""

    def test_inside_the_annotation(self) -> None:
        """Paths lead into the annotation; all mistakes at once."""
        block = changed(aws(), "spec.awsCredentials.region", "nowhere")
        block = changed(block, "spec.awsCredentials.oidcExchangeToken.awsRoleArn", "x")["spec"]["awsCredentials"]
        assert set(problems(managed(block))) == {
            f"{ANNOTATION}.region",
            f"{ANNOTATION}.oidcExchangeToken.awsRoleArn",
        }

    def test_inside_the_policy(self) -> None:
        """What is wrong with the gateway's half keeps its own path."""
        assert set(problems(changed(managed(), "spec.awsCredentials.region", ""))) == {"spec.awsCredentials.region"}

    def test_another_annotation_of_ours(self) -> None:
        """Named as such."""
        found = problems(managed(**{PREFIX + "duration": "a while"}))
        assert list(found) == [f"metadata.annotations[{PREFIX}duration]"]

    @pytest.mark.parametrize(
        "text", ["", "text", "[]", "- a", "1", "null", "{", "a: b: c", "@", "2026-99-99", "[" * 5000]
    )
    def test_not_an_object(self, text: str) -> None:
        """Said under the annotation's path; whatever it is, it is no crash: a policy's author is anybody."""
        found = problems(managed(text))
        assert list(found) == [ANNOTATION]
        assert "YAML or JSON" in found[ANNOTATION]

    def test_a_day_that_no_calendar_has(self) -> None:
        """A date is text in annotations as it is in manifests, so this is an object, without what it needs."""
        assert set(problems(managed("{region: us-east-1, since: 2026-99-99}"))) == {ANNOTATION}
        assert f"{ANNOTATION}.region" in problems(managed("{since: 2026-99-99}"))

    def test_not_a_text(self) -> None:
        """A manifest in a file may hold an object where the API has a text."""
        manifest = managed()
        manifest["metadata"]["annotations"][AWS] = {"region": "us-east-1"}
        assert "write |" in problems(manifest)[ANNOTATION]

    def test_both_annotations(self) -> None:
        """Which is meant, nobody can tell."""
        assert "only one of" in problems(managed(**{AZURE: "{}"}))[ANNOTATION]

    @pytest.mark.parametrize("name", [AWS, AZURE])
    def test_the_wrong_carrier(self, name: str) -> None:
        """The gateway would read the credential from somewhere else, or rotate by itself."""
        other = carrier(AZURE if name == AWS else AWS)
        other["metadata"]["annotations"] = {name: json.dumps((aws if name == AWS else azure)()["spec"][BLOCK[name]])}
        assert "the gateway takes this credential from" in problems(other)[f"metadata.annotations[{name}]"]
        rotating = aws() if name == AWS else azure()
        rotating["metadata"]["annotations"] = dict(other["metadata"]["annotations"])
        assert "the gateway takes this credential from" in problems(rotating)[f"metadata.annotations[{name}]"]

    def test_another_profile(self) -> None:
        """The file that is written has one profile, ``default``."""
        manifest = changed(managed(), "spec.awsCredentials.credentialsFile.profile", "other")
        assert ANNOTATION in problems(manifest)

    def test_another_namespace(self) -> None:
        """A policy's author must not have Secrets written elsewhere."""
        manifest = changed(managed(), "spec.awsCredentials.credentialsFile.secretRef.namespace", "team-b")
        assert "own namespace" in problems(manifest)["spec"]

    @pytest.mark.parametrize("block", [{"region": "us-east-1"}, carrier()["spec"]["awsCredentials"]])
    def test_nothing_to_rotate(self, block: Manifest) -> None:
        """An annotation without an exchange asks for nothing."""
        assert "something to rotate" in problems(managed(block))[ANNOTATION]
        found = problems(managed({"projectName": "p", "region": "r"}, GCP))[f"metadata.annotations[{GCP}]"]
        assert "workloadIdentityFederationConfig or credentialsFile" in found


BLOCK = {AWS: "awsCredentials", AZURE: "azureCredentials"}
SERVICE_ACCOUNT = {PREFIX + "service-account": "bedrock"}
TOKEN_SOURCE = {PREFIX + "token-source": "pod"}
BLOCKS_OF: dict[str, Manifest] = {
    AWS: aws()["spec"]["awsCredentials"],
    AZURE: azure()["spec"]["azureCredentials"],
    GCP: gcp()["spec"]["gcpCredentials"],
}


def without_oidc(name: str, **exchange: str) -> Manifest:
    """Return what a managed policy's annotation holds, without an issuer in it."""
    block = copy.deepcopy(BLOCKS_OF[name])
    federation = block.get("workloadIdentityFederationConfig", block)
    kept = {key: value for key, value in federation["oidcExchangeToken"].items() if key not in {"oidc", "aud"}}
    federation["oidcExchangeToken"] = kept | exchange
    return block


class TestConvert:
    """From the gateway's own form to the managed one."""

    @pytest.mark.parametrize("version", [V1ALPHA1, V1BETA1])
    @pytest.mark.parametrize("form", FORMS)
    def test_round_trip(self, form: str, version: str) -> None:
        """The same exchange: same source, same fingerprint, into another Secret."""
        manifest = FORMS[form](version)
        before = valid(manifest)
        after = valid(convert(manifest, before))
        assert after.managed
        assert (after.source, after.key) == (before.source, before.key)
        assert fingerprint(after.source) == fingerprint(before.source)
        assert after.secret == ObjectKey("team-a", f"{before.key.name}-credentials")

    @pytest.mark.parametrize("form", [gcp, gcp_key])
    def test_gcp_is_not_converted(self, form: Any) -> None:
        """The gateway adds project and region to paths for ``gcpCredentials`` alone: another form would break calls."""
        assert not is_convertible(valid(form()))
        assert all(is_convertible(valid(each())) for each in FORMS.values())

    def test_what_is_kept(self) -> None:
        """Labels, targets, others' annotations and our own; not what only the API server writes."""
        manifest = annotated(aws(), duration="30m")
        manifest["metadata"] |= {"uid": "x", "resourceVersion": "1", "labels": {"team": "a"}, "managedFields": []}
        manifest["metadata"]["annotations"] |= {
            "example.com/x": "y",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        }
        manifest["spec"]["targetRefs"] = [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "b"}]
        manifest["status"] = {"conditions": []}
        converted = convert(manifest, valid(manifest))
        assert set(converted) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(converted["metadata"]) == {"name", "namespace", "labels", "annotations"}
        assert set(converted["metadata"]["annotations"]) == {AWS, "example.com/x", PREFIX + "duration"}
        assert converted["spec"]["targetRefs"] == manifest["spec"]["targetRefs"]
        assert valid(converted).source == valid(manifest).source

    def test_the_original_is_not_changed(self) -> None:
        """What was read stays as it was."""
        manifest = aws()
        before = copy.deepcopy(manifest)
        convert(manifest, valid(manifest))
        assert manifest == before

    @pytest.mark.parametrize("name", ["x" * 243, "x" * 240 + "-yy", "x" * 240 + ".y"])
    def test_long_names(self, name: str) -> None:
        """The Secret's name fits, and is one that Kubernetes takes."""
        manifest = changed(aws(), "metadata.name", name)
        found = valid(convert(manifest, valid(manifest)))
        assert found.secret
        assert found.secret.name.endswith("-credentials")
        assert found.secret.name != name

    @given(
        role=st.from_regex(r"[A-Za-z0-9+=,.@_-]{1,30}", fullmatch=True),
        client=st.text(min_size=1).filter(str.strip),
        scopes=st.lists(st.text(min_size=1).filter(str.strip), max_size=3),
        audience=st.none() | st.text(max_size=20),
        region=st.sampled_from(["us-east-1", "eu-central-1", "ap-southeast-2"]),
    )
    def test_any_policy(self, role: str, client: str, scopes: list[str], audience: str | None, region: str) -> None:
        """Whatever stands in a policy that can be read survives the way through YAML."""
        exchange = {
            "awsRoleArn": f"arn:aws:iam::123456789012:role/{role}",
            "oidc": {**oidc(), "clientID": client, "scopes": scopes},
            **({} if audience is None else {"aud": audience}),
        }
        block = {"region": region, "oidcExchangeToken": exchange}
        manifest = policy("bedrock", {"type": "AWSCredentials", "awsCredentials": block})
        before = read(manifest)
        if isinstance(before, Policy):
            printed = yaml.safe_load(yaml.safe_dump(convert(manifest, before)))
            assert valid(printed).source == before.source


LEAVES = st.none() | st.text() | st.integers()
NESTED = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.text() | NESTED)
def test_any_annotation(content: Any) -> None:
    """No text in an annotation makes reading raise: one policy must not stop the reading of all others."""
    found = read(managed(content if isinstance(content, str) else json.dumps(content)))
    assert isinstance(found, Policy) or found.problems
