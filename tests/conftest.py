"""What holds for all tests: how long an example may take is no matter of right or wrong, least on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
