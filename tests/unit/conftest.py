"""Settings of the property tests: how long an example takes is the machine's business, not a rule."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("credrotator", deadline=None)
settings.load_profile("credrotator")
