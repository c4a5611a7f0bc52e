"""Text in columns: PostgreSQL's has no U+0000, so that it is written as two characters (C21).

The order of texts stays what it was: U+0000 becomes U+0001 U+0001 and U+0001 becomes U+0001 U+0002, and nothing is less
than those.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["from_column", "to_column"]

_WRITTEN: Final = re.compile("\1([\1\2])")


def to_column(text: str) -> str:
    """Return the text as it is stored."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text


def from_column(stored: str) -> str:
    """Return the text that was stored."""
    if "\1" not in stored:
        return stored
    return _WRITTEN.sub(lambda found: "\0" if found[1] == "\1" else "\1", stored)
