"""Calls to the operator: what a person, or a program that pages one, is told while it happens.

They cannot hurt the runtime: each kind is called in order by one task that exists only while something waits, with a
deadline, and bounded. One that raises, hangs or finds no room is counted in `Stats.callbacks_failed`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

from actorfsm.runtime.tasks import start_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm.runtime.parts import Parts

__all__ = ["OperatorCalls"]


class OperatorCalls:
    """The calls of one kind that wait for the operator's callback."""

    def __init__(self, parts: Parts, callback: Callable[..., Any], name: str) -> None:
        self._parts = parts
        self._callback = callback
        self._name = name
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __call__(self, *arguments: Any) -> None:
        """Call the operator soon, after the calls that wait already."""
        if self._closed or len(self._waiting) >= self._parts.limits.callbacks:
            self._parts.counters.callbacks_failed += 1
            return
        self._waiting.append(arguments)
        if self._task is None or self._task.done():
            self._start()

    def close(self) -> None:
        """Call no more: what still waits is counted as failed."""
        self._closed = True
        self._parts.counters.callbacks_failed += len(self._waiting)
        self._waiting.clear()

    def _start(self) -> None:
        self._task = start_task(self._drain(), self._parts.loop)
        self._parts.keep(self._task, self._name)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._call(self._waiting.popleft())
        except asyncio.CancelledError:
            if self._waiting:  # a callback had its own task cancelled: the others are called nevertheless
                self._start()
            raise

    async def _call(self, arguments: tuple[Any, ...]) -> None:
        try:
            async with asyncio.timeout(self._parts.limits.callback_timeout_s):
                result = self._callback(*arguments)
                if inspect.isawaitable(result):
                    await result
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the operator's callback cannot hurt the runtime (C13)
            self._parts.counters.callbacks_failed += 1
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
