"""Who may read which Secret, what a value must be, who depends on a policy, and policies that contradict each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from credrotator.core.errors import PolicyError
from credrotator.core.model import InvalidPolicy, ObjectKey, Problem, SecretKeyRef
from credrotator.policies.inventory import Dependants, Grant, Inventory, read_backend, read_grant, read_route
from credrotator.policies.reader import Defaults
from tests.support.builders import V1ALPHA1, Manifest, aws, azure, changed, policy, read_policy, valid

GROUP = "aigateway.envoyproxy.io"
CLIENT = ObjectKey("shared", "oidc-client")
REF = SecretKeyRef(CLIENT, "client-secret", "spec.x.clientSecret")
POLICY = ObjectKey("team-a", "bedrock")
BACKEND = ObjectKey("team-a", "backend")


def grant(source: Manifest | None = None, target: Manifest | None = None) -> set[Grant]:
    """The permissions of a ReferenceGrant in namespace shared, of which one entry differs from a sound one."""
    entry = {"group": GROUP, "kind": "BackendSecurityPolicy", "namespace": "team-a"} | (source or {})
    manifest = {"spec": {"from": [entry], "to": [{"group": "", "kind": "Secret"} | (target or {})]}}
    return set(read_grant(manifest, ObjectKey("shared", "grant")))


def inventory(value: bytes | None = b"hunter2", grants: set[Grant] | None = None) -> Inventory:
    """A Secret in namespace shared, with the client secret."""
    values = {} if value is None else {"client-secret": value}
    return Inventory(secrets={CLIENT: values}, grants=grant() if grants is None else grants)


def refused(stock: Inventory, ref: SecretKeyRef = REF) -> PolicyError:
    """Read a reference that has to be refused."""
    with pytest.raises(PolicyError) as caught:
        stock.reader(POLICY)(ref)
    assert "spec.x.clientSecret of team-a/bedrock" in caught.value.message
    assert "hunter2" not in str(vars(caught.value))
    return caught.value


# References.


def test_the_own_namespace_needs_no_grant() -> None:
    """Gateway API: ReferenceGrant is about other namespaces only."""
    own = ObjectKey("team-a", "oidc-client")
    stock = Inventory(secrets={own: {"client-secret": b"hunter2"}})
    assert stock.reader(POLICY)(replace(REF, secret=own)).reveal() == "hunter2"


def test_another_namespace_needs_a_grant() -> None:
    """Security 1, G17: without a grant nobody's client secret can be named; the error says how to permit it."""
    error = refused(inventory(grants=set()))
    assert error.reason == "RefNotPermitted"
    assert "namespace shared" in error.hint
    assert inventory().reader(POLICY)(REF).reveal() == "hunter2"


def test_a_missing_grant_hides_whether_the_secret_is_there() -> None:
    """Permission comes first: the error does not tell which Secrets another namespace has."""
    assert refused(Inventory()).reason == refused(inventory(grants=set())).reason


@pytest.mark.parametrize("target", [{}, {"name": "oidc-client"}])
def test_a_grant_for_all_or_for_one(target: Manifest) -> None:
    """Without a name all Secrets of the namespace, with a name that one."""
    assert inventory(grants=grant(target=target)).granted("team-a", CLIENT)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"namespace": "team-b"}, {}),
        ({"group": ""}, {}),
        ({"group": "gateway.networking.k8s.io"}, {}),
        ({"kind": "AIServiceBackend"}, {}),
        ({"namespace": None}, {}),
        ({"namespace": ["team-a"]}, {}),
        ({}, {"kind": "ConfigMap"}),
        ({}, {"group": "example.com"}),
        ({}, {"name": "another"}),
        ({}, {"name": ""}),
        ({}, {"name": ["oidc-client"]}),
        ({}, {"name": {}}),
        ({}, {"name": 0}),
    ],
)
def test_what_a_grant_does_not_say_it_does_not_permit(source: Manifest, target: Manifest) -> None:
    """Every field counts, and one of the wrong shape permits nothing."""
    assert not inventory(grants=grant(source, target)).granted("team-a", CLIENT)


def test_a_grant_is_for_its_own_namespace() -> None:
    """A grant in namespace shared permits nothing elsewhere."""
    assert not inventory().granted("team-a", ObjectKey("other", "oidc-client"))


# Values (fault 41).


def test_a_missing_secret_is_named() -> None:
    """Wait for it and say which Secret and key to create."""
    error = refused(Inventory(grants=grant()))
    assert (error.kind, error.reason) == ("policy", "SecretNotFound")
    assert "shared/oidc-client" in error.message
    assert "client-secret" in error.hint


@pytest.mark.parametrize(("value", "state"), [(None, "has no key"), (b"", "has an empty"), (b" \r\n", "has an empty")])
def test_a_missing_or_empty_key_is_named(value: bytes | None, state: str) -> None:
    """Absent and empty are told apart; blanks are empty."""
    error = refused(inventory(value))
    assert error.reason == "SecretKeyMissing"
    assert f"Secret shared/oidc-client {state}" in error.message


@pytest.mark.parametrize("value", [b"hunter2\n", b"hunter2\r\n", b"hunter2\n\n"])
def test_fault_41_a_trailing_newline_is_left_out(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """``echo secret | base64`` adds one that no issuer counts; which Secret has it is said, what is in it is not."""
    assert inventory(value).reader(POLICY)(REF).reveal() == "hunter2"
    (record,) = caplog.records
    assert "key client-secret of Secret shared/oidc-client ends in a newline" in record.getMessage()
    assert "hunter2" not in record.getMessage()


@pytest.mark.parametrize("key", ["credentials", "service_account.json"])
def test_a_file_ends_in_a_newline_by_right(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every editor and every vendor's tool ends a file so: nothing to be warned of."""
    found = Inventory(secrets={REF.secret: {key: b"{}\n"}})
    found.grants |= grant()
    assert found.reader(POLICY)(replace(REF, key=key)).reveal() == "{}"
    assert not caplog.records


@pytest.mark.parametrize("value", [" hunter2 ", "hun\nter2", "hünter2"])
def test_everything_else_is_part_of_the_secret(value: str) -> None:
    """Blanks may be meant; only the end of the line is not."""
    assert inventory(value.encode()).reader(POLICY)(REF).reveal() == value


def test_a_value_that_is_not_text() -> None:
    """Typically base64 of bytes: a clear error, and the value is not in it."""
    assert refused(inventory(b"\xff\xfehunter2")).reason == "SecretNotText"


def test_a_value_that_could_not_be_read_is_one_problem() -> None:
    """The mistake was reported where it stands; the policy refers to it instead of claiming that there is no key."""
    stock = inventory(None)
    stock.damaged.add((CLIENT, "client-secret"))
    error = refused(stock)
    assert error.reason == "SecretNotReadable"
    assert "could not be read" in error.message


def test_damage_needs_a_grant_too() -> None:
    """Permission comes first here, too."""
    stock = inventory(None, set())
    stock.damaged.add((CLIENT, "client-secret"))
    assert refused(stock).reason == "RefNotPermitted"


# Dependants.


def route(*rules: tuple[str | None, list[Manifest]], header: str = "x-ai-eg-model") -> Manifest:
    """An AIGatewayRoute: models and the backends that they lead to."""
    return {
        "spec": {
            "rules": [
                {
                    "matches": [{"headers": [{"name": header, "value": model}]}] if model else [],
                    "backendRefs": refs,
                }
                for model, refs in rules
            ]
        }
    }


def test_dependants_of_v1() -> None:
    """v1.x: the policy names its backends; routes and models follow from them."""
    stock = Inventory()
    key = ObjectKey("team-a", "route")
    stock.routes[key] = read_route(route(("nova", [{"name": "backend"}]), ("gpt", [{"name": "other"}])), key)
    found = valid(changed(aws(), "spec.targetRefs", [{"name": "backend"}]))
    assert stock.dependants(found) == Dependants((BACKEND,), (key,), ("nova",))


def test_dependants_of_v02() -> None:
    """v0.2: the backend names the policy, in its own namespace only."""
    stock = Inventory()
    ref = {"spec": {"backendSecurityPolicyRef": {"name": "bedrock"}}}
    elsewhere, key = ObjectKey("team-b", "backend"), ObjectKey("team-b", "route")
    for backend in (BACKEND, elsewhere):
        stock.backends[backend] = read_backend(ref, backend)
    models = route(("nova", [{"name": "backend", "namespace": "team-a"}]), ("micro", [{"name": "backend"}]))
    stock.routes[key] = read_route(models, key)
    found = valid(aws(V1ALPHA1))
    assert stock.dependants(found) == Dependants((BACKEND,), (key,), ("nova",))


def test_models_of_all_rules_and_routes() -> None:
    """Sorted and without doubles; both headers that the gateway's releases use, whatever their case."""
    stock = Inventory(backends={BACKEND: POLICY})
    for name, header in (("b", "X-AI-EG-Model"), ("a", "x-aigw-model"), ("c", "x-tenant")):
        key = ObjectKey("team-a", name)
        stock.routes[key] = read_route(
            route((f"{name}2", [{"name": "backend"}]), (f"{name}1", [{"name": "backend"}]), header=header), key
        )
    found = stock.dependants(valid(aws()))
    assert found.routes == tuple(ObjectKey("team-a", name) for name in "abc")
    assert found.models == ("a1", "a2", "b1", "b2")


def test_nothing_depends() -> None:
    """A policy that nobody uses has empty dependants."""
    assert Inventory(backends={BACKEND: None}).dependants(valid(aws())) == Dependants()


def test_a_pool_is_no_backend_of_that_name() -> None:
    """An InferencePool may be called like an AIServiceBackend; routes tell them apart."""
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "backend"}
    key = ObjectKey("team-a", "route")
    stock = Inventory(routes={key: read_route(route(("nova", [pool]), ("gpt", [{"name": "backend"}])), key)})
    assert stock.dependants(valid(changed(aws(), "spec.targetRefs", [pool]))).models == ("nova",)
    assert stock.dependants(valid(changed(aws(), "spec.targetRefs", [{"name": "backend"}]))).models == ("gpt",)


def test_hostile_models_are_escaped() -> None:
    """Fault 46: a model's name reaches ``status``."""
    key = ObjectKey("team-a", "route")
    found = read_route(route(("\x1b[2J", [{"name": "backend"}])), key)
    assert found.models[BACKEND] == {r"\x1b[2J"}


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"spec": None},
        {"spec": []},
        {"spec": {"rules": {}, "from": 1, "to": [1], "backendSecurityPolicyRef": []}},
        {"spec": {"rules": [None, 1, {"matches": 1, "backendRefs": "x"}], "backendSecurityPolicyRef": {"name": 1}}},
        {"spec": {"rules": [{"matches": [{"headers": [{"name": [], "value": {}}]}], "backendRefs": [{"name": []}]}]}},
        {"spec": {"from": [{"group": GROUP, "kind": "BackendSecurityPolicy", "namespace": {}}], "to": [{"kind": []}]}},
    ],
)
def test_other_kinds_of_any_shape_are_passed_over(manifest: dict[str, Any]) -> None:
    """They are not ours to validate, and never a reason to fail."""
    assert read_backend(manifest, POLICY) is None
    assert all(not models for models in read_route(manifest, POLICY).models.values())
    assert set(read_grant(manifest, POLICY)) == set()


# Policies that contradict each other.


def filled(*manifests: Manifest) -> Inventory:
    """An inventory with these policies, each from its own file."""
    stock = Inventory()
    for number, manifest in enumerate(manifests):
        stock.add_policy(read_policy(manifest, f"{number}.yaml:1", Defaults()))
    stock.refuse_shared_backends()
    return stock


def test_the_same_policy_twice_is_one() -> None:
    """A file that is named twice, or a copy, is no contradiction; nor is a broken policy more broken for it."""
    assert list(filled(aws(), aws()).policies) == [POLICY]
    broken = changed(aws(), "spec.type", "x")
    once, twice = filled(broken).invalid[POLICY], filled(broken, broken).invalid[POLICY]
    assert once == twice


@pytest.mark.parametrize("number", [2, 3])
def test_two_policies_of_one_name_are_refused(number: int) -> None:
    """Nobody can tell which is meant; both files are named, and one bad pair stops no other policy."""
    regions = ["us-east-1", "us-west-2", "eu-west-1"][:number]
    others = [changed(aws(), "spec.awsCredentials.region", region) for region in regions]
    stock = filled(*others, azure())
    assert list(stock.policies) == [ObjectKey("team-a", "openai")]
    (problem,) = stock.invalid[POLICY].problems
    assert problem.path == "metadata.name"
    assert "defined twice" in problem.message
    assert f"{number - 1}.yaml:1" in problem.message


def test_a_broken_copy_is_a_contradiction_too() -> None:
    """Also in the other order: the sound one is not used by chance."""
    broken = changed(aws(), "spec.type", "x")
    for pair in ((aws(), broken), (broken, aws())):
        stock = filled(*pair)
        assert not stock.policies
        assert "defined twice" in stock.invalid[POLICY].problems[0].message


def test_nameless_policies_are_not_one() -> None:
    """Two policies without a name are two mistakes, each with its own file."""
    nameless = changed(aws(), "metadata.name", ...)
    other = changed(nameless, "spec.type", "x")
    stock = filled(nameless, other, changed(aws(), "metadata.name", "../x"))
    assert len(stock.invalid) == 3
    assert {found.origin for found in stock.invalid.values()} == {"0.yaml:1", "1.yaml:1", "2.yaml:1"}
    assert all("defined twice" not in str(found.problems) for found in stock.invalid.values())


def targeting(name: str, *backends: str) -> Manifest:
    """An AWS policy for backends."""
    return policy(name, aws()["spec"] | {"targetRefs": [{"name": backend} for backend in backends]})


def test_two_policies_on_one_backend_are_both_refused() -> None:
    """The gateway refuses both, so do we; the message names both, and others go on."""
    stock = filled(targeting("a", "x", "shared"), targeting("b", "shared"), targeting("c", "z"))
    assert list(stock.policies) == [ObjectKey("team-a", "c")]
    claim = "backend team-a/shared is claimed by team-a/a and team-a/b; keep one"
    assert stock.invalid[ObjectKey("team-a", "a")].problems == (Problem("spec.targetRefs[1]", claim),)
    assert stock.invalid[ObjectKey("team-a", "b")].problems == (Problem("spec.targetRefs[0]", claim),)
    assert stock.invalid[ObjectKey("team-a", "a")].provider == "aws-oidc"


def test_all_shared_backends_are_named() -> None:
    """A policy that shares two backends with others hears of both at once."""
    stock = filled(targeting("a", "x", "y"), targeting("b", "x"), targeting("c", "y"))
    assert [problem.path for problem in stock.invalid[ObjectKey("team-a", "a")].problems] == [
        "spec.targetRefs[0]",
        "spec.targetRefs[1]",
    ]


def test_a_backend_twice_in_one_policy_is_shared_with_nobody() -> None:
    """Nor is a backend of that name in another namespace."""
    elsewhere = changed(targeting("b", "x"), "metadata.namespace", "team-b")
    assert len(filled(targeting("a", "x", "x"), elsewhere).policies) == 2


def test_a_refused_policy_claims_no_backend() -> None:
    """A broken policy does not take a sound one along."""
    stock = filled(targeting("a", "x"), changed(targeting("b", "x"), "spec.awsCredentials.region", "?"))
    assert list(stock.policies) == [ObjectKey("team-a", "a")]
    assert isinstance(stock.invalid[ObjectKey("team-a", "b")], InvalidPolicy)
