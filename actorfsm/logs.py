"""Logs: a ready configuration of structlog, for programs that have none of their own.

Never called at import: how a program logs is its own business.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from actorfsm.errors import ActorFSMError

if TYPE_CHECKING:
    from structlog.typing import Processor

__all__ = ["configure"]


def configure(stream: TextIO | None = None, *, level: int | str = "info") -> None:
    """Let structlog write coloured lines to a terminal, and JSON lines to anything else.

    Times are UTC in ISO format; exceptions are rendered without local variables. Calling it again replaces what it did
    before.

    Args:
        stream: Where lines go; standard error by default.
        level: The lowest level shown, by name or number of the standard library's `logging`.

    Raises:
        ActorFSMError: There is no such level.
    """
    target: TextIO = sys.stderr if stream is None else stream
    renderers: list[Processor]
    if target.isatty():
        renderers = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        context_class=dict,
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )


def _number(level: int | str) -> int:
    if isinstance(level, int):
        return level
    known: dict[str, Any] = logging.getLevelNamesMapping()
    number = known.get(level.upper())
    if number is None:
        raise ActorFSMError(
            f"level={level!r}: one of {', '.join(sorted(map(str.lower, known)))}, or a number"
        )
    return int(number)
