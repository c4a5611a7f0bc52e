"""What commands print: text from outside, short and without what a terminal would obey, and how many there are."""

from __future__ import annotations

__all__ = ["counted", "shown"]


def shown(value: object, limit: int = 60) -> str:
    """Return something that came from outside so that it can be printed."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return how many there are: `1 machine`, `2,000 machines`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
