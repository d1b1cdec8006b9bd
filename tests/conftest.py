"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# How long an example takes says something of the machine, nothing of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A log set up by one test goes to a standard error that is gone with it."""
    yield
    structlog.reset_defaults()
