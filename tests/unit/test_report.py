"""What commands print: a stable document for machines, an aligned table for people."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from credrotator.app.outcome_documents import rotate_document
from credrotator.cli.tables import align, explanation, rotate_table, show_span, structured
from credrotator.core.model import ObjectKey
from credrotator.core.outcome import Failure, Outcome
from tests.support.twins import HOUR, KEY, NOW, SECRET

SCHEMA = Path(__file__).parents[2] / "docs" / "rotate.schema.json"
ROTATED = Outcome(KEY, "aws-oidc", "rotated", "Missing", SECRET, NOW + HOUR, NOW + timedelta(minutes=38, seconds=12))
FAILED = Outcome(
    ObjectKey("prod", "openai"),
    "azure-client-secret",
    "failed",
    "Expiring",
    ObjectKey("prod", "ai-eg-bsp-openai"),
    NOW - timedelta(minutes=5),
    NOW - timedelta(minutes=25),
    Failure("denied", "AADSTS7000215", "the client secret is wrong", "replace it"),
)
SKIPPED = Outcome(ObjectKey("default", "static"), "api-key", "skipped", "Static", warnings=("odd",))


@pytest.fixture(scope="session")
def schema() -> Draft202012Validator:
    """Return the validator of the published schema."""
    return Draft202012Validator(json.loads(SCHEMA.read_text()))


class TestDocument:
    """``rotate -o json``: the shape that design and schema promise."""

    def test_shape(self) -> None:
        """Every member is always there; times are RFC 3339 in UTC; absent things are null."""
        assert rotate_document([ROTATED, FAILED, SKIPPED]) == {
            "results": [
                {
                    "policy": "default/bedrock",
                    "provider": "aws-oidc",
                    "action": "rotated",
                    "reason": "Missing",
                    "secret": "default/ai-eg-bsp-bedrock",
                    "expiresAt": "2026-11-24T13:00:00Z",
                    "renewAt": "2026-11-24T12:38:12Z",
                    "error": None,
                    "warnings": [],
                },
                {
                    "policy": "prod/openai",
                    "provider": "azure-client-secret",
                    "action": "failed",
                    "reason": "Expiring",
                    "secret": "prod/ai-eg-bsp-openai",
                    "expiresAt": "2026-11-24T11:55:00Z",
                    "renewAt": "2026-11-24T11:35:00Z",
                    "error": {
                        "kind": "denied",
                        "reason": "AADSTS7000215",
                        "message": "the client secret is wrong",
                        "hint": "replace it",
                        "see": "reasons#AADSTS7000215",
                    },
                    "warnings": [],
                },
                {
                    "policy": "default/static",
                    "provider": "api-key",
                    "action": "skipped",
                    "reason": "Static",
                    "secret": None,
                    "expiresAt": None,
                    "renewAt": None,
                    "error": None,
                    "warnings": ["odd"],
                },
            ],
            "summary": {"rotated": 1, "kept": 0, "skipped": 1, "failed": 1},
        }

    def test_schema(self, schema: Draft202012Validator) -> None:
        """The document is what the schema in docs/ describes; an empty pass is, too."""
        schema.validate(rotate_document([ROTATED, FAILED, SKIPPED]))
        schema.validate(rotate_document([]))
        assert not schema.is_valid(rotate_document([replace(FAILED, error=None)]))

    @pytest.mark.parametrize("form", ["json", "yaml"])
    def test_forms(self, form: str) -> None:
        """JSON and YAML say the same; what looks like a time stays a string."""
        document = rotate_document([ROTATED, FAILED, SKIPPED])
        text = structured(document, form)
        read: Any = json.loads(text) if form == "json" else yaml.safe_load(text)
        assert read == document
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


class TestTable:
    """For a person."""

    def test_table(self) -> None:
        """Columns stand below their headings; failures and warnings are explained below; the summary comes last."""
        assert rotate_table([ROTATED, FAILED, SKIPPED], NOW, wide=False, dry_run=False) == (
            "POLICY            PROVIDER              ACTION    REASON     EXPIRES IN   RENEWS IN\n"
            "default/bedrock   aws-oidc              rotated   Missing    1h           38m12s\n"
            "prod/openai       azure-client-secret   failed    Expiring   5m ago       25m ago\n"
            "default/static    api-key               skipped   Static     -            -\n"
            "\n"
            "prod/openai: AADSTS7000215 (denied): the client secret is wrong\n"
            "  what to do: replace it\n"
            "default/static: warning: odd\n"
            "\n"
            "1 rotated, 0 kept, 1 skipped, 1 failed\n"
        )

    def test_wide(self) -> None:
        """Wide adds the Secret."""
        first, second, *_ = rotate_table([ROTATED], NOW, wide=True, dry_run=False).splitlines()
        assert first.endswith("   SECRET")
        assert second.endswith("   default/ai-eg-bsp-bedrock")

    def test_dry_run(self) -> None:
        """A dry run never looks as if something had been done."""
        shown = rotate_table([ROTATED], NOW, wide=False, dry_run=True)
        assert "rotated (dry run)" in shown
        assert shown.endswith("1 rotated, 0 kept, 0 skipped, 0 failed (dry run: nothing was written)\n")

    def test_tones(self) -> None:
        """What was done is told from what failed at a glance; zeros recede."""
        shown = rotate_table(
            [ROTATED, FAILED], NOW, wide=False, dry_run=False, paint=lambda text, tone: f"[{tone}]{text}"
        )
        assert "[good]rotated" in shown
        assert "[bad]failed" in shown
        assert "[bad]5m ago" in shown
        assert shown.endswith("[good]1 rotated, [dim]0 kept, [dim]0 skipped, [bad]1 failed\n")

    def test_explanation(self) -> None:
        """What is well needs no explanation."""
        assert explanation(ROTATED) == ""

    @pytest.mark.parametrize(("offset_s", "text"), [
        (3600, "1h"), (59, "59s"), (1, "1s"), (0, "now"), (-1, "1s ago"), (-86400 * 2, "2d ago"),
    ])  # fmt: skip
    def test_span(self, offset_s: int, text: str) -> None:
        """Spans read as kubectl's ages do; the past is said in words."""
        assert show_span(NOW + timedelta(seconds=offset_s), NOW) == text

    @given(st.lists(st.lists(st.text("abc", max_size=9), min_size=3, max_size=3), min_size=1))
    def test_align(self, rows: list[list[str]]) -> None:
        """Each cell starts in its column, three spaces behind the widest one before; no line ends in blanks."""
        lines = align(rows).split("\n")[:-1]
        assert len(lines) == len(rows)
        starts = [sum(max(len(row[index]) for row in rows) + 3 for index in range(column)) for column in range(3)]
        for line, row in zip(lines, rows, strict=True):
            assert line == line.rstrip()
            for start, cell in zip(starts, row, strict=True):
                assert line[start : start + len(cell)] == cell
