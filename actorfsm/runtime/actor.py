"""The actor: one machine alive, and the spine of the house: its turn.

Read `Actor.turn` from top to bottom: receive → select → hooks → commit → believe → perform. Two laws are visible in it:
*nothing leaves before the commit*, and *memory changes only after the commit*. Until then hooks work on a draft; a
refusal or a failure drops the draft, and there is nothing to undo.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from actorfsm.machine.definition import Transition
from actorfsm.machine.draft import show_fields
from actorfsm.machine.selection import select
from actorfsm.runtime import perform
from actorfsm.runtime.turn import Turn, enter_turn

if TYPE_CHECKING:
    import asyncio

    from actorfsm.machine.definition import StateNode
    from actorfsm.runtime.crash import Crash
    from actorfsm.runtime.envelope import Envelope, Settlement
    from actorfsm.runtime.intensity import Backoff, Intensity
    from actorfsm.runtime.jobs import Job
    from actorfsm.runtime.kind import Kind
    from actorfsm.runtime.mailbox import Mailbox
    from actorfsm.runtime.supervised import MachineChild
    from actorfsm.runtime.timers import Timer
    from actorfsm.runtime.track import Track

__all__ = [
    "IDLE",
    "PAUSED",
    "QUARANTINED",
    "READY",
    "RUNNING",
    "STOPPED",
    "SUSPENDED",
    "Actor",
    "Rare",
    "Remembered",
]

IDLE: Final = 0
READY: Final = 1
"""In the dispatcher's queue."""
RUNNING: Final = 2
PAUSED: Final = 3
"""Between a failure and its restart or redelivery: mail is kept, nothing is handled."""
SUSPENDED: Final = 4
"""Held by an operator: mail is taken in, nothing is handled."""
QUARANTINED: Final = 5
"""Failed too often: held until released."""
STOPPED: Final = 6


class Remembered:
    """An explicit event id of a machine: the event, and how it ended or, in flight, its envelope."""

    __slots__ = ("birth_data", "envelope", "event", "settlement")

    def __init__(self, envelope: Envelope) -> None:
        self.event = envelope.event
        self.birth_data = envelope.birth_data
        self.envelope: Envelope | None = envelope
        self.settlement: Settlement | None = None

    def is_same(self, envelope: Envelope) -> bool:
        """Return whether this is the same event, and not only the same id."""
        return (
            type(self.event) is type(envelope.event)
            and self.event == envelope.event
            and self.birth_data == envelope.birth_data
        )


class Rare:
    """What few machines need: made when it is first needed, so that an idle machine is small."""

    __slots__ = (
        "backoff",
        "birth_waiters",
        "child",
        "crash",
        "ids",
        "intensity",
        "pause_key",
        "stop_is_failure",
        "stop_reason",
        "stop_waiters",
        "suspended",
    )

    def __init__(self) -> None:
        self.ids: dict[str, Remembered] = {}
        """The newest explicit event ids."""
        self.child: MachineChild | None = None
        """Its place in the supervision tree, if it was declared there; otherwise it was spawned by id."""
        self.intensity: Intensity | None = None
        """Its restarts that still count, if it was spawned by id and has failed."""
        self.backoff: Backoff | None = None
        """Its pauses, likewise."""
        self.pause_key = 0
        self.stop_reason: str | None = None
        self.stop_is_failure = False
        """Whether a failure stops it."""
        self.suspended = False
        """Whether an operator wants it held: in effect once its status is SUSPENDED."""
        self.crash: Crash | None = None
        """Its last failure, for whoever wants to make a test of it."""
        self.stop_waiters: list[asyncio.Future[None]] = []
        self.birth_waiters: list[asyncio.Future[None]] = []

    @property
    def is_called_off(self) -> bool:
        """Whether it is to stop or to be held after the event now being handled."""
        return self.suspended or self.stop_reason is not None

    def remember(self, envelope: Envelope, limit: int) -> None:
        """Remember an explicit event id, in the place of the oldest that are settled if there is no room."""
        too_many = len(self.ids) - limit + 1
        if too_many > 0:
            settled = (event_id for event_id, known in self.ids.items() if known.envelope is None)
            for event_id in list(islice(settled, too_many)):
                del self.ids[event_id]
        self.ids[envelope.event_id] = Remembered(envelope)

    def conclude(self, envelope: Envelope, settlement: Settlement) -> None:
        """Remember how an event ended if it was committed; otherwise its id may try again."""
        known = self.ids.get(envelope.event_id)
        if known is not None and known.envelope is envelope:
            if settlement.kind == "committed":
                known.envelope, known.settlement = None, settlement
            else:
                del self.ids[envelope.event_id]


class Actor:
    """One machine alive: a small slotted object. It has no task, and a mailbox only while something waits.

    Attributes:
        kind: Its class in this system.
        id: Its id.
        node: Its state; the root of the tree until it is born.
        data: Its committed data. Never changed in place.
        seq: How many transitions it has committed.
        incarnation: How often it was restarted.
        status: IDLE, READY, RUNNING, PAUSED, SUSPENDED, QUARANTINED or STOPPED.
        mailbox: What waits, or None.
        timers: Its timers by name, as its last commit left them, or None.
        jobs: Its jobs by name, as its last commit left them, or None.
        rare: What few machines need, or None.
        track: Where it stands in the journal, or None.
    """

    __slots__ = (
        *("data", "id", "incarnation", "jobs", "kind", "mailbox", "node", "rare", "seq", "status", "timers"),
        "track",
    )

    def __init__(self, kind: Kind, machine_id: str, node: StateNode, data: dict[str, Any]) -> None:
        self.kind = kind
        self.id = machine_id
        self.node = node
        self.data = data
        self.seq = 0
        self.incarnation = 0
        self.status = IDLE
        self.mailbox: Mailbox | None = None
        self.timers: dict[str, Timer] | None = None
        self.jobs: dict[str, Job] | None = None
        self.rare: Rare | None = None
        self.track: Track | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether its life is over."""
        return self.status == STOPPED

    async def turn(self, envelope: Envelope) -> bool:  # noqa: C901, PLR0912, PLR0915 -- the spine
        """Handle one event: receive → select → hooks → commit → believe → perform.

        Returns:
            Whether the machine goes on here: False once a hook refused to end and was left behind.
        """
        # receive
        kind = self.kind
        parts = kind.parts
        event = envelope.event
        turn = Turn(self, envelope)
        machine = turn.machine = kind.drafts.open(turn)
        enter_turn(turn)
        envelope.begun = True
        parts.counters.in_flight += 1
        if parts.sinks:
            turn.started_at = parts.time()
        reply: Any = None
        recording = parts.recording
        try:
            if recording is not None and await recording.is_done(turn):
                return True
            # select, which is pure
            choice = select(self.node, event, machine)
            if not isinstance(choice, Transition):
                perform.set_aside(turn, choice)
                return True
            turn.choice = choice
            turn.writable = True
            # then the hooks, each on the draft, each free to refuse
            for step in choice.steps:
                turn.step = step
                if step.arguments == 2:  # noqa: PLR2004 -- (old, new)
                    result = step.function(machine, choice.old, choice.new)
                elif step.arguments == 1:
                    result = step.function(machine, event)
                else:
                    result = step.function(machine, choice.old, choice.new, event)
                if step.is_async:
                    turn.step_deadline = deadline = parts.time() + step.timeout_s
                    if deadline < parts.sweeper.next_check:
                        parts.sweeper.arm(deadline)
                    result = await result
                    if turn.interruption is not None:
                        raise perform.Interrupted
                if step.is_body:
                    reply = result
                elif result is not True and result is not None:
                    raise perform.refusal(step, result)
            # commit
            turn.writable = False
            if reply.__class__ is not choice.reply.certain_class:
                reply = choice.reply.check(reply)
            data = draft = self.data if turn.draft is None else turn.draft
            if choice.is_birth:
                data = kind.rules.at_commit_of_birth(draft)
            elif draft is not self.data:
                data = kind.rules.at_commit(draft, turn.touched)
            if recording is not None:
                await recording.commit(turn, choice, data, reply)
            # believe: memory changes only after the commit
            self.node = choice.target
            self.data = data
            self.seq += 1
            turn.committed, turn.data, turn.draft = True, data, None
        except BaseException as error:  # noqa: BLE001 -- every kind of failure ends the event, not the runtime (C13)
            if turn.transaction is not None:
                await perform.undo(turn, error)
            return perform.roll_back(turn, error)
        # perform: nothing leaves before the commit
        try:
            perform.committed(turn, choice, reply)
            if choice.afters:
                if data is not draft:
                    show_fields(machine, data)
                return await self._after(turn, choice)
        finally:
            turn.close()
        return True

    async def _after(self, turn: Turn, choice: Transition) -> bool:
        """Run the after-hooks of a turn: they may look at what was committed, and cannot undo it."""
        machine, parts = turn.machine, self.kind.parts
        for step in choice.afters:
            turn.step = step
            try:
                if step.arguments == 2:  # noqa: PLR2004 -- (old, new)
                    result = step.function(machine, choice.old, choice.new)
                else:
                    result = step.function(machine, choice.old, choice.new, turn.envelope.event)
                if step.is_async:
                    turn.step_deadline = deadline = parts.time() + step.timeout_s
                    if deadline < parts.sweeper.next_check:
                        parts.sweeper.arm(deadline)
                    await result
            except BaseException as error:  # noqa: BLE001 -- what is committed stays committed
                perform.after_hook_failed(turn, step, error)
            if turn.interruption is not None and perform.after_interruption(turn, step):
                return False
        return True
