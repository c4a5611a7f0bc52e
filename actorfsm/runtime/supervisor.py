"""The supervisor of declared children: starts them in order, and sees to it that what ended is started again.

Its semantics are those of OTP's `supervisor` (C16, C17). It has a task only while there is something to see to. That
task handles one ended child at a time, and lets the event loop have its turn after a number of them (C12). Pauses
before restarts are timers, so that meanwhile others are served. Whoever stops a supervisor cancels its task first and
then stops the children, so that a start that hangs holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from actorfsm.errors import ActorFSMError, SystemStopping
from actorfsm.runtime.child import Restart, Strategy
from actorfsm.runtime.intensity import Intensity
from actorfsm.runtime.reply import described
from actorfsm.runtime.supervised import LiveChild
from actorfsm.runtime.tasks import start_task
from actorfsm.runtime.tree import TreeNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actorfsm.machine.options import RestartPolicy
    from actorfsm.runtime.parts import Parts

__all__ = ["DidNotStart", "LiveSupervisor"]


class DidNotStart(Exception):
    """A child did not start; the cause is why. Passed up through the supervisors, which stop what had started."""

    def __init__(self, child: LiveChild, cause: BaseException) -> None:
        super().__init__(f"{child.name} did not start: {described(cause)}")
        self.cause = cause


class LiveSupervisor(LiveChild):
    """One supervisor of a system's tree.

    Attributes:
        children: Its children in the order of start.
        strategy: Which of them are restarted when one is.
        policy: How many restarts are too many, and the pauses before them.
    """

    what = "supervisor"

    def __init__(  # noqa: PLR0917 -- what is declared of it
        self,
        parts: Parts,
        name: str,
        strategy: Strategy,
        restart: Restart,
        policy: RestartPolicy,
        parent: LiveSupervisor | None,
    ) -> None:
        super().__init__(parts, name, restart, parent)
        self.children: list[LiveChild] = []
        self.is_shown = parent is not None
        self.strategy: Final = strategy
        self.policy: Final = policy
        self._places: dict[LiveChild, int] = {}
        self._intensity = Intensity()
        self._inbox: deque[LiveChild] = deque()
        """Children that ended, or whose pause is over."""
        self._task: asyncio.Task[None] | None = None
        self._is_open = False
        self._seen_to = 0
        """Children that were started, stopped or seen to."""

    def add(self, child: LiveChild) -> None:
        """Add a child at the end of the order of start."""
        self._places[child] = len(self.children)
        self.children.append(child)

    # -- start and stop -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the children in order. If one does not start, those that did are stopped in reverse order.

        Raises:
            DidNotStart: One of them did not.
        """
        self.begin()
        self._intensity.clear()
        for child in self.children:
            await self._breathe()
            try:
                await child.start()
            except Exception as error:  # noqa: BLE001 -- whatever it is, nothing is left half started
                failure = error if isinstance(error, DidNotStart) else DidNotStart(child, error)
                child.status = "failed"
                if failure is not error:
                    child.record("child_failed", str(failure), error)
                await self._stop_children()
                self.status = "failed"
                raise failure from failure.cause
        self._is_open = True
        self.has_started()
        self._attend()

    async def stop(self) -> None:
        """Stop all children in reverse order, each within its deadline."""
        self._is_open = False
        self.is_stopping()
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
        await self._stop_children()
        self.has_stopped()

    async def _stop_children(self) -> None:
        self._is_open = False
        self._inbox.clear()
        for child in self.children:
            self._forget_pause(child)
        for child in reversed(self.children):
            if child.status != "new":
                await self._breathe()
                await child.stop()

    async def _breathe(self) -> None:
        """Let the event loop have its turn after so many children: what is done with one may never wait."""
        self._seen_to += 1
        if self._seen_to % self.parts.limits.turns_per_step == 0:
            await asyncio.sleep(0)

    def give_up(self) -> None:
        """Follow the decision that it is not started again: nor are its children."""
        for child in reversed(self.children):
            child.give_up()

    # -- what ended ---------------------------------------------------------------------------------------------

    def child_exited(self, child: LiveChild) -> None:
        """Take note that a child ended by itself."""
        self._inbox.append(child)
        self._attend()

    def _attend(self) -> None:
        if self._inbox and self._is_open and self._task is None:
            self._task = task = start_task(self._work(), self.parts.loop)
            task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.parts.on_failure(error)
        self._attend()

    async def _work(self) -> None:
        while self._inbox and self._is_open:
            child = self._inbox.popleft()
            if child.has_ended:
                await self._see_to(child, child.error)
            elif child.status == "waiting" and not child.pause_key:
                await self._start_again(child.down_with_it)
            await self._breathe()

    async def _see_to(self, child: LiveChild, error: BaseException | None) -> None:
        """Decide what becomes of a child that ended: nothing more, a restart, or the end of this supervisor."""
        child.has_ended = False
        others = [other for other in child.down_with_it if other is not child]
        self._forget_pause(child)
        if not self._is_restarted(child, error):
            if error is not None and not isinstance(error, SystemStopping):
                child.record("child_failed", f"{described(error)}; not started again", error)
            if error is not None:
                child.give_up()  # one that ended normally has nothing left to give up, or stays addressable
            await self._start_again(
                others
            )  # it waited for its restart, and was stopped meanwhile: they go on
            return
        if error is not None:
            child.record("child_failed", described(error), error)
        await self._restart(child, error)

    def _is_restarted(self, child: LiveChild, error: BaseException | None) -> bool:
        if self.parts.failed_with is not None or (self.parts.stopping and child.what != "machine"):
            return False
        return child.restart is Restart.PERMANENT or (
            child.restart is Restart.TRANSIENT and error is not None
        )

    async def _restart(
        self, child: LiveChild, error: BaseException | None, down: Sequence[LiveChild] = ()
    ) -> None:
        """Count a restart of the child; stop those that depend on it, and start them all again after a pause.

        Args:
            child: The child.
            error: Why it ended.
            down: Others that are stopped already, and are to be started after it.
        """
        now = self.parts.loop.time()
        if not self._intensity.allows(self.policy, now):
            await self._escalate(child, error, down)
            return
        affected = sorted({*self._affected(child), *down}, key=self._places.__getitem__)
        for other in reversed(affected):
            await self._breathe()
            self._forget_pause(other)
            await other.stop()
            if other.restart is Restart.TEMPORARY:
                other.give_up()
        child.down_with_it = affected
        if child.has_ended:
            return  # normally, by itself, while it and others were being stopped: it is in the inbox
        child.status = "waiting"
        pause_s = child.backoff.next_pause_s(self.policy, now, self.parts.random)
        child.pause_key = self.parts.timers.call_later(
            pause_s, self.parts.guarded(self._pause_is_over), child
        )

    def _affected(self, child: LiveChild) -> list[LiveChild]:
        """Return the children that are restarted together with this one, in the order of start."""
        if self.parts.stopping or self.strategy is Strategy.ONE_FOR_ONE:
            return [child]
        if self.strategy is Strategy.ONE_FOR_ALL:
            return self.children
        return self.children[self._places[child] :]

    def _pause_is_over(self, child: LiveChild) -> None:
        child.pause_key = 0
        self._inbox.append(child)
        self._attend()

    def _forget_pause(self, child: LiveChild) -> None:
        child.down_with_it = []
        if child.pause_key:
            self.parts.timers.cancel(child.pause_key)
            child.pause_key = 0

    async def _start_again(self, children: Sequence[LiveChild]) -> None:
        """Start children that were stopped together, in order. A start that fails counts as a restart."""
        for number, other in enumerate(children, 1):
            other.down_with_it = []
            if other.restart is Restart.TEMPORARY:
                continue
            await self._breathe()
            try:
                await other.start()
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is tried again, or passed up
                cause = error.cause if isinstance(error, DidNotStart) else error
                other.status = "failed"
                other.record("child_failed", f"did not start: {described(cause)}", cause)
                await self._restart(other, cause, children[number:])
                return

    # -- giving up ----------------------------------------------------------------------------------------------

    async def _escalate(
        self, child: LiveChild, error: BaseException | None, down: Sequence[LiveChild]
    ) -> None:
        """Give up: stop all children, and fail to the supervisor above; the root fails the system."""
        policy = self.policy
        reason = (
            f"{child.name} was to be restarted, the limit is {policy.max_restarts} in {policy.within_s:g} s"
        )
        cause = error or ActorFSMError(f"{self.name}: {child.name} ended too often")
        if self.parts.stopping:
            await child.stop()
            child.give_up()
            await self._start_again(down)
            return
        self.record("escalated", reason, cause)
        if self.parent is None:
            self.parts.fail(cause, f"its root supervisor gave up: {reason}")
            return
        await self._stop_children()
        self.exited(cause)

    def view(self) -> TreeNode:
        """Return what to show of it and of all below."""
        return TreeNode(
            self.name,
            self.what,
            self.status,
            str(self.restart),
            self.incarnation,
            str(self.strategy),
            self._intensity.count(self.policy, self.parts.loop.time()),
            children=tuple(child.view() for child in self.children),
        )
