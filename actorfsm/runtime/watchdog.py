"""The watchdog: names the line that blocks the event loop, which no deadline can interrupt.

A daemon thread of each running system asks the loop for a sign of life, twice in the time that it may be silent.
If none comes it looks at the stack of the loop's thread. What it finds is reported from the loop once that is back, and
once for each line; if the loop does not come back, the stack goes to stderr.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import traceback
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from actorfsm.runtime.actor import Actor
from actorfsm.runtime.turn import Turn
from actorfsm.trace import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from actorfsm.runtime.parts import Parts

__all__ = ["LoopBlocked", "Watchdog"]

LOOKS: Final = 2
"""How often the thread looks within the time that the loop may be silent."""
STUCK: Final = 20
"""After how many times that long the stack goes to stderr: 5 s by default."""
CLOSED_CHECK_S: Final = 1.0
"""How often a thread that must not look only asks whether the loop was closed."""
MAX_SITES: Final = 1_000
JOIN_S: Final = 1.0

_PACKAGE: Final = str(Path(__file__).parents[1]) + os.sep
_STANDARD: Final = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "<frozen ")
_INSTALLED: Final = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """Where the event loop was blocked.

    Attributes:
        seconds: How long it did not answer, at least.
        file: The file of the innermost line that is the user's own.
        line: The number of that line.
        function: The function that it is in.
        machine_id: The machine whose turn was running, or None.
        hook: The hook that was running, or None.
        stack: What the loop was running, the innermost line last.
    """

    seconds: float
    file: str
    line: int
    function: str
    machine_id: str | None
    hook: str | None
    stack: str


class Watchdog:
    """Watches over the event loop of one system."""

    def __init__(self, parts: Parts, on_closed: Callable[[], None]) -> None:
        self._parts = parts
        self._loop = parts.loop
        self._limit_s = parts.limits.blocked_s
        self._on_closed = on_closed
        self._loop_thread = threading.get_ident()
        self._alive = parts.guarded(self._sign_of_life)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._sites: set[tuple[str, int]] = set()
        self._depth = 0
        """How many frames of the loop's thread are the loop itself and what called it."""
        self._answered = True
        self._asked_at = 0.0
        self._found: LoopBlocked | None = None
        self._cried = False

    def start(self) -> None:
        """Begin to watch, unless it has begun."""
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._watch, name="actorfsm-watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for its end."""
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(JOIN_S)

    # -- on the thread ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        pause_s = self._limit_s / LOOKS if self._limit_s else CLOSED_CHECK_S
        while not self._ended.wait(pause_s):
            if self._loop.is_closed():
                self._on_closed()
                return
            if self._limit_s:
                self._look()

    def _look(self) -> None:
        silent_s = monotonic() - self._asked_at
        if self._answered:
            self._answered, self._cried, self._asked_at = False, False, monotonic()
            with suppress(RuntimeError):  # it was closed just now
                self._loop.call_soon_threadsafe(self._alive, context=Context())
        elif not self._loop.is_running():
            self._asked_at = monotonic()  # it is not blocked, it stands still
        elif self._found is None and silent_s >= self._limit_s:
            self._found = self._blocked_at(silent_s)
        elif not self._cried and silent_s >= self._limit_s * STUCK:
            self._cried = True
            self._cry(silent_s)

    def _blocked_at(self, silent_s: float) -> LoopBlocked | None:
        """Return where the loop's thread is; None if it is in no code that the loop runs."""
        running = self._running()
        if not running:
            return None
        frame = _users_own(running)
        turn = _turn_of(running)
        return LoopBlocked(
            seconds=silent_s,
            file=frame.f_code.co_filename,
            line=frame.f_lineno,
            function=frame.f_code.co_qualname,
            machine_id=None if turn is None else turn.machine_id,
            hook=None if turn is None or turn.step is None else turn.step.name,
            stack="".join(traceback.format_list(_summary(running))),
        )

    def _running(self) -> list[FrameType]:
        """Return the frames that the loop is running now, the innermost first."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- documented
        frames: list[FrameType] = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        return frames[: len(frames) - self._depth]

    def _cry(self, silent_s: float) -> None:
        stack = "".join(traceback.format_list(_summary(self._running())))
        with suppress(Exception):  # stderr may be closed, or none
            sys.stderr.write(
                f"actorfsm: the event loop has not answered for {silent_s:.1f} s; it is in\n{stack}"
            )
            sys.stderr.flush()

    # -- on the loop --------------------------------------------------------------------------------------------

    def _sign_of_life(self) -> None:
        """Answer the thread, and report what it saw while the loop could not."""
        # The caller of this guarded callback is the loop.
        self._depth = _depth(sys._getframe(2))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- documented
        silent_s = monotonic() - self._asked_at
        found, self._found = self._found, None
        self._answered = True
        if found is not None:
            self._report(replace(found, seconds=max(found.seconds, silent_s)))

    def _report(self, found: LoopBlocked) -> None:
        parts = self._parts
        parts.counters.loop_blocked += 1
        site = (found.file, found.line)
        if site in self._sites or len(self._sites) >= MAX_SITES:
            return
        self._sites.add(site)
        actor = None if found.machine_id is None else parts.registry.actors.get(found.machine_id)
        if parts.sinks:
            parts.emit_outside(
                Record(
                    "loop_blocked",
                    "" if actor is None else actor.kind.name,
                    found.machine_id or "",
                    0 if actor is None else actor.incarnation,
                    0 if actor is None else actor.seq,
                    hook=found.hook,
                    reason=f"{found.file}:{found.line} in {found.function} blocked the event loop for at least "
                    f"{found.seconds:.2f} s: await what waits, or give it to a thread",
                    run_s=found.seconds,
                )
            )
        if parts.on_blocked is not None:
            parts.on_blocked(found)


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def _summary(frames: Sequence[FrameType]) -> traceback.StackSummary:
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in reversed(frames))


def _users_own(running: Sequence[FrameType]) -> FrameType:
    """Return the innermost frame of the user's own code, or else of the nearest that it uses."""
    others = [frame for frame in running if not frame.f_code.co_filename.startswith(_PACKAGE)] or running
    installed = [frame for frame in others if not _is_standard(frame)] or others
    own = [frame for frame in installed if not any(name in frame.f_code.co_filename for name in _INSTALLED)]
    return (own or installed)[0]


def _is_standard(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_STANDARD) and not any(installed in name for installed in _INSTALLED)


def _turn_of(running: Sequence[FrameType]) -> Turn | None:
    """Return the turn that is running: it is a local name of the actor's own coroutine."""
    for frame in running:
        if frame.f_code.co_filename == _ACTOR:
            turn = frame.f_locals.get("turn")
            if isinstance(turn, Turn):
                return turn
    return None


_ACTOR: Final = Actor.turn.__code__.co_filename
