"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A log set up by one test goes to a standard error that is gone with it."""
    yield
    structlog.reset_defaults()
