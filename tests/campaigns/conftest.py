"""What the campaigns share."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def frozen_heap() -> Iterator[None]:
    """Let the garbage collector look at what a campaign makes alone, and not, each time, at all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
