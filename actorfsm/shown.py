"""Text from outside, so that it can be printed: short, and without what a terminal would obey."""

from __future__ import annotations

__all__ = ["shown"]


def shown(value: object, limit: int = 60) -> str:
    """Return something that came from outside so that it can be printed."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"
