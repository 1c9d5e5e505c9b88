"""From the gateway's own form to the managed one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import ObjectKey, Policy, fingerprint
from credrotator.policies.annotations import PREFIX
from tests.daemon.forms import FORMS, read, valid
from tests.support.builders import (
    AWS,
    V1ALPHA1,
    V1BETA1,
    annotated,
    aws,
    changed,
    convert,
    gcp,
    gcp_key,
    is_convertible,
    oidc,
    policy,
)


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
