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
    ObjectKey,
    OidcClient,
    Policy,
    SecretKeyRef,
    ServiceAccountToken,
    Static,
    TokenFile,
    fingerprint,
)
from credrotator.policies.annotations import PREFIX
from credrotator.providers.aws.source import AwsOidc, ChainedRole
from credrotator.providers.azure.source import AzureOidc
from credrotator.providers.gcp.source import GcpWorkloadIdentity
from tests.daemon.forms import ANNOTATION, FORMS, carrier, managed, problems, read, valid
from tests.support.builders import AWS, AZURE, GCP, Manifest, aws, azure, azure_secret, changed, gcp, gcp_key, oidc

CHAIN, SECOND = PREFIX + "role-chain", "arn:aws:iam::210987654321:role/shared"


CLIENT_ASSERTION = PREFIX + "client-assertion"


ISSUER = oidc()["provider"]["issuer"]


def key_of(name: str) -> SecretKeyRef:
    """Refer to a key of the Secret with a client's own key."""
    return SecretKeyRef(ObjectKey("team-a", "client-key"), name, f"metadata.annotations[{CLIENT_ASSERTION}]")


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


LEAVES = st.none() | st.text() | st.integers()


NESTED = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.text() | NESTED)
def test_any_annotation(content: Any) -> None:
    """No text in an annotation makes reading raise: one policy must not stop the reading of all others."""
    found = read(managed(content if isinstance(content, str) else json.dumps(content)))
    assert isinstance(found, Policy) or found.problems
