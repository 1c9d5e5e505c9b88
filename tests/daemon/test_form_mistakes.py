"""Mistakes in a managed policy, each with its path."""

from __future__ import annotations

import json

import pytest

from credrotator.policies.annotations import PREFIX
from tests.daemon.forms import ANNOTATION, carrier, managed, problems
from tests.support.builders import AWS, AZURE, GCP, Manifest, aws, azure, changed

BLOCK = {AWS: "awsCredentials", AZURE: "azureCredentials"}


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
