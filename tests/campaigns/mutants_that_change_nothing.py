"""Mutants that no test can notice, each with the reason: file, function, change."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[tuple[str, str, str], str]] = {}
