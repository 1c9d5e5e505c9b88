"""A Secret that asks for itself: what it means, every mistake with its path, and the shapes that its readers expect."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from credrotator.core.model import SECRET_KIND, InvalidPolicy, ObjectKey, Policy, RotatablePolicy
from credrotator.core.planning import Keep, Reason, Rotate
from credrotator.core.published_credential import published_credential
from credrotator.core.secret_document import Published, SecretDocument, StoredSecret
from credrotator.core.secretdata import CONTENT, parse, render
from credrotator.core.sensitive import Sensitive
from credrotator.core.shapes import AUTHORIZATION
from credrotator.policies.annotations import ASKS, PREFIX, SHAPE
from credrotator.policies.asking import asking_key, asking_secret, asks, read_asking
from credrotator.policies.inventory import Inventory
from credrotator.policies.reader import Defaults
from credrotator.providers import PROVIDERS, policy_reader
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support import builders
from tests.support.manifests import exchange, managed, read
from tests.support.twins import NOW, MemoryStore, ScriptedExchange, aws_credential, azure_token, no_secrets

AWS, AZURE, GCP = builders.AWS, builders.AZURE, builders.GCP
KEY = ObjectKey("default", "bedrock-credentials")
ANTHROPIC = PREFIX + "anthropic-credentials"


def asking(name: str = AWS, shape: str | None = "aws-keys", content: Any = None, **annotations: str) -> dict[str, Any]:
    """A Secret that asks for itself; ``content``: what the annotation holds."""
    notes = {name: json.dumps(exchange() if content is None else content), **annotations}
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "labels": {ASKS: "true"}, "uid": "uid-1"}
    notes |= {} if shape is None else {SHAPE: shape}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {**metadata, "annotations": notes}}


def found(manifest: dict[str, Any]) -> Policy | InvalidPolicy:
    """Read a Secret as every part of credrotator does."""
    return read_asking(policy_reader(Defaults()), manifest, KEY, "secret.yaml:1")


def valid(manifest: dict[str, Any]) -> RotatablePolicy:
    """Read a Secret that has to be sound."""
    policy = found(manifest)
    assert isinstance(policy, RotatablePolicy), policy
    return policy


def problems(manifest: dict[str, Any]) -> dict[str, str]:
    """Read a Secret that has to be refused; return messages by path."""
    policy = found(manifest)
    assert isinstance(policy, InvalidPolicy), policy
    assert policy.key == asking_key(KEY)
    return {problem.path: problem.message for problem in policy.problems}


class TestReading:
    """What such a Secret means."""

    def test_the_policy_that_it_is(self) -> None:
        """It asks for what a managed policy with the same annotation asks for, and publishes into itself."""
        policy = valid(asking())
        assert policy.source == read(managed()).source
        assert (policy.secret, policy.kind, policy.uid, policy.managed) == (KEY, SECRET_KIND, "uid-1", True)
        assert (str(policy.key), asking_secret(policy.key)) == ("default/secret:bedrock-credentials", KEY)
        assert asking_secret(KEY) is None

    def test_only_the_label_asks(self) -> None:
        """Any other value is no request, nor is an annotation without the label."""
        manifest = asking()
        assert asks(manifest)
        for labels in ({}, {ASKS: "false"}, {ASKS: True}, None):
            manifest["metadata"]["labels"] = labels
            assert not asks(manifest)

    def test_further_annotations(self) -> None:
        """Those of a policy's author hold; those that credrotator wrote, and those of others, are no part of it."""
        plain = valid(asking())
        renewed = valid(asking(**{PREFIX + "renew-requested-at": "now", PREFIX + "duration": "30m"}))
        assert (renewed.renew_request, renewed.fingerprint == plain.fingerprint) == ("now", False)
        noted = asking(**{PREFIX + "fingerprint": "f", PREFIX + "policy": "x", "example.com/x": "y"})
        assert valid(noted) == plain

    @pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
    def test_each_provider_can_be_asked(self, provider: Any) -> None:
        """Each has a form, and shapes; a shape that it cannot give is named beside those that it can."""
        refused = problems(asking(provider.managed.annotation, "nonsense", {}))
        path = f"metadata.annotations[{SHAPE}]"
        assert path in refused
        assert all(name in refused[path] for name in provider.managed.shapes)
        assert "gateway" in provider.managed.shapes

    def test_another_shape_is_another_credential(self) -> None:
        """A Secret of the wrong shape is of no use to its reader, so an edit of the annotation rotates."""
        assert valid(asking(shape="gateway")).fingerprint != valid(asking()).fingerprint
        assert valid(asking(shape="gateway")).fingerprint == read(managed()).fingerprint


class TestMistakes:
    """All at once, each with its field."""

    def test_nothing_is_asked_for(self) -> None:
        """The annotations to choose from are named."""
        manifest = asking()
        del manifest["metadata"]["annotations"]
        assert AWS in problems(manifest)["metadata.annotations"]
        manifest["metadata"]["annotations"] = ["x"]
        assert AWS in problems(manifest)["metadata.annotations"]

    def test_two_are_asked_for(self) -> None:
        """Which is meant, nobody can tell."""
        assert "only one of" in problems(asking(**{AZURE: "{}"}))[f"metadata.annotations[{AWS}]"]

    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            (AWS, None, "expected gateway or aws-keys"),
            (AWS, "aws_keys", "did you mean aws-keys"),
            (AWS, "api-key", "expected gateway or aws-keys, which aws-credentials can be given as, got api-key"),
            (AZURE, "aws-keys", "expected gateway or api-key or authorization-header"),
            (ANTHROPIC, "", "expected gateway or api-key"),
        ],
    )
    def test_shape(self, name: str, shape: str | None, message: str) -> None:
        """A missing, an unknown one, and one that the provider cannot give."""
        block = builders.azure()["spec"]["azureCredentials"] if name == AZURE else None
        assert message in problems(asking(name, shape, block))[f"metadata.annotations[{SHAPE}]"]

    def test_what_the_annotation_holds(self) -> None:
        """Paths lead into it, as on a policy."""
        wrong = {**exchange(), "region": "nowhere"}
        assert set(problems(asking(content=wrong))) == {f"metadata.annotations[{AWS}].region"}
        static = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": "x"}}}
        assert "something to rotate" in problems(asking(content=static))[f"metadata.annotations[{AWS}]"]
        text = asking()
        text["metadata"]["annotations"][AWS] = "["
        assert "YAML or JSON" in problems(text)[f"metadata.annotations[{AWS}]"]

    def test_an_unknown_annotation_of_ours(self) -> None:
        """Named, as on a policy."""
        assert f"metadata.annotations[{PREFIX}shap]" in problems(asking(**{PREFIX + "shap": "gateway"}))

    @pytest.mark.parametrize("kind", ["kubernetes.io/tls", "kubernetes.io/service-account-token", 7])
    def test_security_another_type(self, kind: Any) -> None:
        """Only Opaque Secrets ask: any other was made for something else."""
        assert "expected Opaque" in problems({**asking(), "type": kind})["type"]

    def test_immutable(self) -> None:
        """What cannot be written cannot be kept fresh."""
        assert "replaced" in problems({**asking(), "immutable": True})["immutable"]

    @pytest.mark.parametrize("block", ["data", "stringData"])
    def test_security_somebody_elses_values(self, block: str) -> None:
        """A label is easily put on: a Secret that somebody has filled is never written over."""
        filled = {**asking(), block: {"client-secret": "eA=="}}
        assert "credrotator did not write" in problems(filled)[block]
        valid({**asking(), block: {"apiKey": ""}})
        noted = asking(**{CONTENT: "0123456789abcdef"})
        valid({**noted, block: {"accessKey": "eA=="}})

    def test_security_a_reference_to_another_namespace(self) -> None:
        """A ReferenceGrant is given to policies; a Secret may only name its neighbours, and not itself."""
        content = exchange()
        content["oidcExchangeToken"]["oidc"]["clientSecret"] = {"name": "x", "namespace": "team-b"}
        path = f"metadata.annotations[{AWS}].oidcExchangeToken.oidc.clientSecret"
        assert "must be default" in problems(asking(content=content))[f"{path}.namespace"]
        content = copy.deepcopy(content)
        content["oidcExchangeToken"]["oidc"]["clientSecret"] = {"name": KEY.name}
        assert "name another" in problems(asking(content=content))[f"{path}.name"]

    def test_the_secret_of_a_policy(self) -> None:
        """Of two that lead to one Secret the policy keeps it, whatever their names; a Secret of that name may ask."""
        inventory = Inventory()
        policy, secret = read(managed()), valid(asking())
        inventory.add_policy(secret)
        inventory.add_policy(policy)
        inventory.add_policy(replace(secret, key=asking_key(policy.key), secret=policy.key))
        inventory.refuse_shared_secrets()
        assert policy.key in inventory.policies
        assert asking_key(policy.key) in inventory.policies
        (problem,) = inventory.invalid[secret.key].problems
        assert (problem.path, "is where default/bedrock publishes" in problem.message) == ("metadata.labels", True)
        assert ASKS in problem.message


def test_from_manifests() -> None:
    """`-f` takes such Secrets too, in a List as well; a Secret beside them that does not ask is no policy."""
    beside = {**asking(), "metadata": {"name": "beside", "namespace": KEY.namespace}}
    secrets = {"apiVersion": "v1", "kind": "List", "items": [asking(), beside]}
    reading = builders.from_stdin(json.dumps(secrets))
    assert (reading.problems, list(reading.inventory.policies)) == ([], [asking_key(KEY)])
    both = builders.from_stdin(json.dumps({**secrets, "items": [asking(), managed()]}))
    assert list(both.inventory.policies) == [ObjectKey("default", "bedrock")]
    assert list(both.inventory.invalid) == [asking_key(KEY)]


class TestShapes:
    """What lies in the Secret, as its readers read it, and the way back."""

    def test_aws_keys(self) -> None:
        """As kgateway and agentgateway read them (``accessKey``, ``secretKey``, ``sessionToken``)."""
        credential = aws_credential()
        data = valid(asking()).data(credential)
        assert {name: value.reveal() for name, value in data.items()} == {
            "accessKey": credential.access_key_id,
            "secretKey": credential.secret_access_key.reveal(),
            "sessionToken": credential.session_token.reveal(),
        }

    @pytest.mark.parametrize(
        ("shape", "keys"),
        [
            ("gateway", {"apiKey": ""}),
            ("api-key", {"apiKey": ""}),
            ("authorization-header", {"Authorization": "Bearer ", "credential": "Bearer "}),
        ],
    )
    def test_tokens(self, shape: str, keys: dict[str, str]) -> None:
        """MCPRoute's ``apiKey``; kgateway's ``Authorization``, and the ``credential`` of Envoy Gateway's filter."""
        policy = valid(asking(AZURE, shape, builders.azure()["spec"]["azureCredentials"]))
        token = azure_token()
        data = policy.data(token)
        plain = token.secret_data("x")["x"].reveal()
        assert {name: value.reveal() for name, value in data.items()} == {
            name: prefix + plain for name, prefix in keys.items()
        }

    @pytest.mark.parametrize("shape", ["gateway", "aws-keys"])
    def test_read_back(self, shape: str) -> None:
        """G1: the Secret is its own record in every shape; its parts are there for templates and programs."""
        policy = valid(asking(shape=shape))
        credential = aws_credential()
        document = render(KEY, credential, policy.fingerprint, data=policy.data(credential), owner=policy.owner)
        published = parse(document, policy.source, policy.data_key, policy.shape)
        assert isinstance(published, Published)
        assert published.expires_at == credential.expires_at
        parts = published_credential(policy, document)
        assert parts is not None
        assert parts.fields["session_token"] == credential.session_token
        assert parts.environment["AWS_REGION"].reveal() == "us-east-1"

    def test_another_shape_is_unreadable(self) -> None:
        """A key that is missing, or differs from its twin, makes the Secret one to be written anew."""
        token = Sensitive("Bearer a")
        assert AUTHORIZATION.fields({"Authorization": token}) is None
        assert AUTHORIZATION.fields({"Authorization": token, "credential": Sensitive("Bearer b")}) is None
        assert AUTHORIZATION.fields({"Authorization": token, "credential": Sensitive("a")}) is None
        assert AUTHORIZATION.fields({"Authorization": token, "credential": token}) == {"token": Sensitive("a")}


def test_rotation() -> None:
    """An empty Secret gets its credential, which then is kept; one of an earlier shape is written anew."""
    store, policy = MemoryStore(), valid(asking())
    store.put(SecretDocument(KEY, {}, {}))
    rotation = Rotation(store, ScriptedExchange(aws_credential(), aws_credential()), lambda: NOW)
    assert isinstance(rotation.state(policy, RotateOptions()).plan, Rotate)
    outcome = rotation(policy, no_secrets, RotateOptions())
    assert (outcome.action, outcome.reason) == ("rotated", Reason.MISSING)
    stored = store.read(KEY)
    assert isinstance(stored, StoredSecret)
    assert set(stored.document.data) == {"accessKey", "secretKey", "sessionToken"}
    assert isinstance(rotation.state(policy, RotateOptions()).plan, Keep)
    edited = valid(asking(shape="gateway"))
    assert rotation(edited, no_secrets, RotateOptions()).action == "rotated"
    again = store.read(KEY)
    assert again is not None
    assert set(again.document.data) == {"credentials"}
