"""The contract in a few hundred lines: what machines do with their events, without asyncio, tasks or hooks.

The model reads the trace and refuses the first record that the contract does not allow. It knows who comes next at each
machine; which machine comes next it learns from the trace, for that is the scheduler's business.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.campaigns.p5.supervisor import Supervisor

NORMAL, BIRTH, SPAWN, STAYS = ("before", "exit", "body", "enter"), ("body", "enter"), ("enter",), ("body",)
STAY = {"stay": ("", STAYS), "note": ("", STAYS), "ended": ("", STAYS)}
TABLE: dict[str | None, dict[str, tuple[str, tuple[str, ...]]]] = {
    None: {"birth": ("A", BIRTH), "spawn": ("A", SPAWN)},
    "A": {**STAY, "go": ("B", NORMAL), "end": ("END", NORMAL), "late": ("postpone", ())},
    "B": {**STAY, "go": ("C", NORMAL), "late": ("C", NORMAL)},
    "C": {
        **STAY,
        "go": ("A", NORMAL),
        "late": ("", STAYS),
        "end": ("END", NORMAL),
        "timeout": ("A", NORMAL),
    },
    "END": {},
}
MAX_RESTARTS, WITHIN_S, STABLE_S, LONGEST_PAUSE_S = 2, 10.0, 12.0, 30.0
REMEMBERED = 3
PAUSE_OF_CHILD_S, PAUSE_OF_SUPERVISOR_S = 1.013, 1.0171
"""So odd that no pause of the tree ends in the moment in which something else happens."""
LIMIT_OF_C_S, ATTEMPTS, FIRST_PAUSE_S = 7.31, 2, 0.1
"""How long C may last; how many times more a timer comes whose event failed, and the pause before it does."""
ROUNDED_S = 2e-6
"""The journal keeps times in microseconds."""
TICK_S = 0.1
"""How late a deadline may be noticed."""


@dataclass(eq=False)
class Sent:
    """An event on its way, and how it ended."""

    kind: str
    tag: str
    fate: str = "ok"
    at: str = "body"
    slow: int = 0
    own: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    timer: str = ""
    """What its body does with timers: start a named one, one of the state, one of any event, one that fails; cancel."""
    watch: str = ""
    """The machine that its body watches, or with a "-" the one that it watches no more."""
    event_id: str = ""
    deadline: float | None = None
    is_ask: bool = False
    outcome: str | None = None
    """Its kind of outcome, or "refused" if it was never accepted."""
    ended_at: float = 0.0
    is_own: bool = False
    aside_since: int = 0
    """When it was postponed first, counted; 0 if it was not."""
    is_promised: bool = False
    """Whether the journal keeps it: a message of a machine."""
    is_late: bool = False
    """Whether it is a notice of the end of a machine that has to be looked for in the journal first."""
    is_there: bool = True
    """Whether it certainly waits at its machine."""
    is_conflict: bool = False
    """Whether its id was used for another event."""
    gave_up: bool = False
    """Whether it was a duplicate whose deadline passed before the event that it had joined ended."""
    twins: list[Sent] = field(default_factory=list)

    @property
    def is_aside(self) -> bool:
        return self.aside_since > 0

    @property
    def content(self) -> tuple[Any, ...]:
        return (self.kind, self.tag, self.fate, self.at, self.slow, self.own, self.to, self.timer, self.watch)


def delay_of(tag: str) -> float:
    """Return how long after the commit a timer is due that an event has started; no two are due at the same time."""
    return 2 + int(tag) % 97 / 97


@dataclass(eq=False)
class Timer:
    """A timer of a machine, from the commit that starts it until its event has its outcome."""

    sent: Sent
    scope: str
    due: float
    failures: int = 0
    waits: bool = False


class Model:
    """All machines, what became of their events, and the account."""

    def __init__(self, *, keeps_journal: bool = False) -> None:
        self.keeps_journal = keeps_journal
        self.machines: dict[str, One] = {}
        self.used: dict[tuple[str, str], Sent] = {}
        """By machine and event id, what was committed: a journal does not forget, also if the machine is gone."""
        self.accepted = self.duplicates = self.restarts = 0
        self.now = 0.0
        self.asides = 0
        self.outcomes: Counter[str] = Counter()
        self.dead: Counter[tuple[str, str]] = Counter()
        self.due: dict[str, deque[tuple[str, str]]] = {}
        """By machine, the records that must come next."""
        self.watchers: dict[str, dict[One, None]] = {}
        """By the machine that is watched, who wants to know of its end."""
        self.supervisor: Supervisor | None = None
        self.reading: tuple[Any, float, str] | None = None
        self.records: deque[tuple[Any, float, str]] = deque()
        """The records that come after the one being read, with their times and tags."""

    def coming(self, machine_id: str) -> str | None:
        """Tell by its next record how an event or the supervisor left a machine; None if there is none yet.

        What is due already is not how it goes on from here.
        """
        names = {"stopped", "restarted", "committed", "vetoed", "failed", "unhandled"}
        due = list(self.due.get(machine_id, ()))
        for record, _, tag in self.records:
            if record.machine_id != machine_id:
                continue
            if (record.name, tag) in due:
                due.remove((record.name, tag))
            elif record.name in names and not record.duplicate:
                return str(record.name)
        return None

    def next_outcome(self, machine_id: str) -> str | None:
        """Return by its tag which event of a machine ends next; None if none does yet."""
        coming = (entry for entry in [self.reading, *self.records] if entry is not None)
        return next(
            (
                tag
                for record, _, tag in coming
                if record.machine_id == machine_id and record.event is not None
            ),
            None,
        )

    def is_buried(self, machine_id: str, sent: Sent) -> bool:
        """Return whether an event is about to become a dead letter."""
        return any(
            (record.name, record.machine_id, tag) == ("dead_lettered", machine_id, sent.tag)
            for record, _, tag in self.records
        )

    def awaits(self, record: Any, now: float) -> bool:
        """Return whether what befell a machine is due."""
        self.passes(now)
        return (record.name, "") in self.due.get(record.machine_id, ())

    def send(self, to: str, sent: Sent, *, message: bool = False) -> None:
        """Accept an event, or refuse it."""
        one = self.machines.get(to)
        if one is None and sent.kind in TABLE[None] and self.used_for(to, sent) is None:
            one = self.machines[to] = One(self, to)
        known = self.used_for(to, sent) if one is None else one.ids.get(sent.event_id)
        if (one is None and known is None) or (known is not None and known.content != sent.content):
            self.refuse(to, sent, message=message)
        elif known is not None:
            self.accepted += 1
            if known.outcome is None:
                known.twins.append(sent)
            else:
                self.end(to, sent, known.outcome, duplicate=True)
        elif one is None or one.quarantined:
            self.refuse(to, sent, message=message)
        else:
            self.accepted += 1
            one.remember(sent)
            one.queue.append(sent)

    def used_for(self, to: str, sent: Sent) -> Sent | None:
        """Return what the journal knows the event id of."""
        return self.used.get((to, sent.event_id)) if self.keeps_journal and sent.event_id else None

    def refuse(self, to: str, sent: Sent, *, message: bool) -> None:
        sent.outcome = "dead_lettered" if message else "refused"
        self.accepted += message
        self.outcomes["dead_lettered"] += message
        if not sent.is_ask:
            self.bury(to, sent)
            self.expect(to, "dead_lettered", sent.tag)

    def bury(self, to: str, sent: Sent) -> None:
        self.dead[to, sent.tag] += 1

    def expect(self, to: str, name: str, tag: str = "") -> None:
        self.due.setdefault(to, deque()).append((name, tag))

    def end(self, to: str, sent: Sent, outcome: str, *, duplicate: bool = False, seen: bool = False) -> None:
        """End an event; `seen` if its record is the one being read."""
        sent.outcome, sent.ended_at = outcome, self.now
        self.outcomes[outcome] += 1
        self.duplicates += duplicate
        if not seen:
            self.expect(to, outcome, sent.tag)
        if outcome == "committed" and sent.event_id and not duplicate:
            self.used[to, sent.event_id] = sent
        one = self.machines.get(to)
        if one is not None and one.ids.get(sent.event_id) is sent and outcome != "committed":
            del one.ids[sent.event_id]
        for twin in sent.twins:
            self.end(to, twin, outcome, duplicate=True)
        sent.twins = []

    def passes(self, now: float) -> None:
        """Let time pass: timers fall due, pauses of the supervisor are over."""
        for one in self.machines.values():
            one.fire(now)
        if self.supervisor is not None:
            self.supervisor.passes(now)

    def crash(self) -> None:
        """Let the process die at rest, and the next one open the journal: what it does not know of is lost."""
        self.due.clear()
        self.accepted = self.duplicates = self.restarts = 0
        self.outcomes.clear()
        self.dead.clear()
        undelivered: list[tuple[str, Sent]] = []
        for one in list(self.machines.values()):
            if one.state is None:
                del self.machines[one.id]
                undelivered += [(one.id, sent) for sent in one.queue if sent.is_promised]
            else:
                one.crash()
        if self.supervisor is not None:
            self.supervisor.crash()
        for to, sent in undelivered:
            self.send(to, sent, message=True)

    def ended(self, machine_id: str) -> None:
        """Tell who watches that a machine has ended."""
        for watcher in self.watchers.pop(machine_id, {}):
            watcher.notify(machine_id)

    def read(self, record: Any, now: float, tag: str) -> None:
        """Follow one record of the trace."""
        self.now, self.reading = now, (record, now, tag)
        self.passes(now)
        due = self.due.get(record.machine_id)
        # At the instant at which a pause and a deadline end, either may come first.
        is_tie = bool(due) and record.name == "expired" and due[0] == ("restarted", "")
        if due and not is_tie:
            expected = due[0]
            if self.keeps_journal and not tag:
                # What befell a machine is told at once; an outcome that the journal has to know of, when it does.
                expected = next((other for other in due if not other[1]), expected)
            elif self.keeps_journal and record.name == "dead_lettered" and (record.name, tag) in due:
                expected = record.name, tag
            assert expected == (record.name, tag), f"{record} {tag}, but due was {expected}"
            due.remove(expected)
            return
        assert record.machine_id in self.machines, f"{record} of a machine that does not live"
        self.machines[record.machine_id].read(record, tag, now)

    def at_rest(self, now: float) -> None:
        """Nothing more happens at this time: then nothing must be due, and each machine waits for a reason."""
        self.now, self.reading = now, None
        self.passes(now)
        assert not any(self.due.values()), f"never came: {self.due}"
        for one in list(self.machines.values()):
            if one.paused_until is not None and one.paused_until <= now:
                one.paused_until = None
            one.begin(now)
            assert one.current is None or now < one.current.ended_at, f"{one.id} sits on {one.current}"
            for sent in one.held():
                sent.is_there = True
                assert sent is one.current or sent.deadline is None or now < sent.deadline + TICK_S, (
                    f"{sent} should have expired"
                )


class One:
    """One machine."""

    def __init__(self, model: Model, machine_id: str) -> None:
        self.model = model
        self.id = machine_id
        self.state: str | None = None
        self.log: list[str] = []
        self.seq = self.incarnation = 0
        self.queue: deque[Sent] = deque()
        self.own: deque[Sent] = deque()
        self.released: deque[Sent] = deque()
        self.postponed: list[Sent] = []
        self.current: Sent | None = None
        self.ids: dict[str, Sent] = {}
        self.restarts: list[float] = []
        self.streak, self.resumed_at = 0, 0.0
        self.paused_until: float | None = None
        self.quarantined = self.stopping = self.suspended = False
        self.supervisor: Supervisor | None = None
        self.is_held = False
        """Whether its supervisor holds it."""
        self.timers: dict[str, Timer] = {}

    def waiting(self) -> list[Sent]:
        """What waits, in the order in which a stop answers it."""
        return [*self.own, *self.postponed, *self.released, *self.queue]

    def held(self) -> list[Sent]:
        """All that has not ended: what is handled, what waits, and the duplicates that joined them."""
        known = [*([self.current] if self.current else []), *self.waiting()]
        return [*known, *(twin for sent in known for twin in sent.twins)]

    def remember(self, sent: Sent) -> None:
        if sent.event_id:
            settled = [event_id for event_id, known in self.ids.items() if known.outcome is not None]
            for event_id in settled[: max(0, len(self.ids) - REMEMBERED + 1)]:
                del self.ids[event_id]
            self.ids[sent.event_id] = sent

    def begin(self, now: float) -> None:
        """Take the next event that is not postponed: own first, then released, then the queue."""
        while (
            self.current is None
            and self.paused_until is None
            and not (self.quarantined or self.suspended or self.is_held)
        ):
            lane = self.own or self.released or self.queue
            if not lane:
                return
            sent = self.first_of(lane)
            lane.remove(sent)
            if self.model.used_for(self.id, sent) is not None:
                self.current, sent.ended_at = sent, now
            elif TABLE[self.state].get(sent.kind, ("", ()))[0] == "postpone":
                self.postponed.append(sent)
                self.model.asides += 1
                sent.aside_since = sent.aside_since or self.model.asides
                self.other_event_ended()
            else:
                self.current = sent
                # Until it ends, when it may end at the latest: at once, unless it is slow.
                steps = TABLE[self.state].get(sent.kind, ("", ()))[1]
                sent.ended_at = now + (sent.slow if sent.at in steps else 0)

    def first_of(self, lane: deque[Sent]) -> Sent:
        """Return what comes first of what waits; a late notice when it does."""
        coming = self.model.next_outcome(self.id) if lane[0].is_late else None
        return next((sent for sent in lane if not sent.is_late or sent.tag == coming), lane[0])

    def read(self, record: Any, tag: str, now: float) -> None:
        if record.name == "expired":
            self.expire(record, tag, now)
            return
        if self.paused_until is not None and self.paused_until <= now:
            self.paused_until = None
        self.begin(now)
        sent = self.current
        assert sent is not None, f"{record}: {self.id} has nothing to do"
        assert sent.tag == tag, f"{self.id} handled {tag}, before {sent.tag}"
        self.current = None
        if (used := self.model.used_for(self.id, sent)) is not None:
            self.repeats(record, sent, used)
            return
        expected, target = self.judge(sent)
        seen = (record.name, record.source, record.target, record.seq, record.incarnation)
        seq = self.seq + (expected == "committed")
        assert seen == (expected, self.state, target, seq, self.incarnation), f"{seen}: {self.state} {sent}"
        self.model.end(self.id, sent, expected, seen=True)
        if expected == "committed":
            self.commit(sent, target)
        elif self.state is None:
            self.not_born()
            return
        else:
            gave_up = self.timer_refused(sent, expected, now)
            if expected == "failed" and not self.stopping:
                self.fail(sent, now, gave_up=gave_up)
        if self.stopping:
            self.stop()
        if self.supervisor is not None and self in self.supervisor.stopping[:1]:
            self.supervisor.goes_on(now)

    def repeats(self, record: Any, sent: Sent, used: Sent) -> None:
        """Follow an event whose id was used before, as the journal says when its turn has come."""
        is_same = used.content == sent.content
        assert (record.name, record.duplicate) == (("committed", True) if is_same else ("failed", False)), (
            f"{record}, but {used} has the id"
        )
        sent.is_conflict = not is_same
        self.model.end(self.id, sent, record.name, duplicate=is_same, seen=True)
        if self.state is None:
            self.not_born()
        elif self.stopping:
            self.stop()

    def expire(self, record: Any, tag: str, now: float) -> None:
        late = [s for s in self.held() if s.tag == tag and s.deadline is not None and s.deadline <= now]
        late = [
            sent for sent in late if sent is not self.current and (sent in self.waiting()) != record.duplicate
        ]
        assert late, f"{tag} expired too early, or after it had begun"
        late[0].gave_up = record.duplicate
        for lane in (self.own, self.postponed, self.released, self.queue, *(s.twins for s in self.held())):
            if late[0] in lane:
                lane.remove(late[0])
        self.model.end(self.id, late[0], "expired", seen=True)

    def judge(self, sent: Sent) -> tuple[str, str | None]:
        """The outcome, and where the event leads."""
        edge = TABLE[self.state].get(sent.kind)
        if edge is None:
            return "unhandled", None
        target, steps = edge[0] or self.state, edge[1]
        fate = sent.fate if sent.at in steps else "ok"
        return {"ok": "committed", "veto": "vetoed"}.get(fate, "failed"), target

    def commit(self, sent: Sent, target: str | None) -> None:
        steps = TABLE[self.state][sent.kind][1]
        changes, self.state, self.seq = self.state != target, target, self.seq + 1
        self.log += [f"{sent.tag}:{step}" for step in steps]
        if changes and target == "END":
            for late in self.postponed:
                self.model.end(self.id, late, "unhandled")
            self.postponed = []
        elif changes:
            self.released = deque([*self.postponed, *self.released])
            self.postponed = []
        own = [Sent(kind, f"{sent.tag}^{n}", is_own=True) for n, kind in enumerate(sent.own)]
        self.model.accepted += len(own)
        self.own.extendleft(reversed(own))
        self.commit_timers(sent, steps is STAYS)
        for to in sent.to:
            self.model.send(to, Sent("note", f"{sent.tag}>{to}", is_promised=True), message=True)
        self.commit_watch(sent.watch)
        if changes and target == "END":
            self.model.ended(self.id)

    def commit_timers(self, sent: Sent, stays: bool) -> None:
        """Start and cancel: a timer dies with its state, with any event, or when told."""
        left = {
            name: timer
            for name, timer in self.timers.items()
            if timer.sent is not sent and (timer.scope == "named" or (timer.scope == "state" and stays))
        }
        if self.state == "C" and not stays:
            left["overdue"] = Timer(Sent("timeout", "overdue"), "state", self.model.now + LIMIT_OF_C_S)
        if sent.timer == "cancel":
            left.pop("named", None)
        elif sent.timer:
            name = "named" if sent.timer == "failing" else sent.timer
            event = Sent("note", f"{sent.tag}~", fate="fail" if sent.timer == "failing" else "ok")
            left.pop(name, None)
            left[name] = Timer(event, name, self.model.now + delay_of(sent.tag))
        if self.state == "END":
            left = {}
        for timer in self.timers.values():
            if timer not in left.values():
                self.withdraw(timer.sent)
        self.timers = left

    def withdraw(self, sent: Sent) -> None:
        """Take back an event of the runtime's own that waits: then it was never accepted."""
        if sent in self.queue:
            self.queue.remove(sent)
            self.model.accepted -= 1

    def fire(self, now: float) -> None:
        """Let the events of due timers wait in the mailbox."""
        for timer in sorted(self.timers.values(), key=lambda timer: timer.due):
            if timer.due <= now and not timer.waits:
                timer.waits = True
                self.model.accepted += 1
                self.queue.append(timer.sent)

    def timer_refused(self, sent: Sent, outcome: str, now: float) -> bool:
        """Follow an event that was not committed: a timer's comes again if it failed; tell whether it did too often."""
        if outcome == "unhandled":
            self.other_event_ended()
        found = [(name, timer) for name, timer in self.timers.items() if timer.sent is sent]
        if not found:
            return False
        (name, timer) = found[0]
        if outcome != "failed":
            del self.timers[name]
            return False
        timer.failures += 1
        gave_up = timer.failures > ATTEMPTS
        timer.due = now if gave_up else now + FIRST_PAUSE_S * 2.0 ** (timer.failures - 1)
        timer.waits = False
        self.fire(now)
        return gave_up

    def other_event_ended(self) -> None:
        timer = self.timers.pop("event", None)
        if timer is not None:
            self.withdraw(timer.sent)

    def commit_watch(self, wish: str) -> None:
        """Begin or take back a watch; a machine that has ended already is reported at once."""
        watched = wish.removeprefix("-")
        if not wish or watched == self.id:
            return
        known = self.model.machines.get(watched)
        if wish != watched:
            self.model.watchers.get(watched, {}).pop(self, None)
            for sent in self.notices_of(watched):
                self.withdraw(sent)
        elif known is not None and known.state != "END":
            self.model.watchers.setdefault(watched, {})[self] = None
        elif not self.notices_of(watched):
            self.notify(watched, late=self.model.keeps_journal and known is None)

    def notices_of(self, watched: str) -> list[Sent]:
        return [sent for sent in self.queue if sent.tag == f"end {watched}"]

    def notify(self, watched: str, *, late: bool = False) -> None:
        self.model.accepted += 1
        self.queue.append(Sent("ended", f"end {watched}", is_late=late, is_there=not late))

    def fail(self, sent: Sent, now: float, *, gave_up: bool) -> None:
        """Resume, restart after a pause, go into quarantine, or stop: as the exception says."""
        if self.supervisor is not None:
            if self.model.coming(self.id) != "stopped":  # else it was about to be stopped after this event
                self.supervisor.failed(self, now)
        elif gave_up:
            self.incarnation += 1
            self.model.restarts += 1
            self.quarantine()
        elif sent.fate == "fatal":
            self.stopping = True
        elif sent.fate == "restart":
            self.restarts = [when for when in self.restarts if when > now - WITHIN_S] + [now]
            self.streak = 1 if now - self.resumed_at >= STABLE_S else self.streak + 1
            self.incarnation += 1
            self.model.restarts += 1
            if len(self.restarts) > MAX_RESTARTS:
                self.quarantine()
            else:
                self.paused_until = self.resumed_at = now + min(2.0 ** (self.streak - 1), LONGEST_PAUSE_S)
                self.model.expect(self.id, "restarted")

    def quarantine(self) -> None:
        self.quarantined = True
        self.model.expect(self.id, "quarantined")
        self.answer_asks()

    def answer_asks(self) -> None:
        for lane in (self.own, self.released, self.postponed, self.queue):
            for sent in [sent for sent in lane if sent.is_ask]:
                lane.remove(sent)
                self.model.end(self.id, sent, "dead_lettered")

    def release(self, *, discard: bool) -> None:
        if self.quarantined:
            self.quarantined, self.restarts, self.streak = False, [], 0
            for timer in self.timers.values():
                timer.failures = 0
            self.model.expect(self.id, "released")
            if discard:
                self.drain()

    def not_born(self) -> None:
        """A refused birth leaves the id unknown, unless the next event gives birth too."""
        while self.queue and self.queue[0].kind not in TABLE[None]:
            self.undelivered(self.queue.popleft())
        if not self.queue:
            del self.model.machines[self.id]
            self.model.ended(self.id)

    def request_stop(self) -> None:
        self.stopping = True
        if self.current is None:
            self.stop()

    def suspend(self) -> None:
        if not self.suspended:
            self.suspended = True
            self.model.expect(self.id, "suspended")

    def resume(self) -> None:
        if self.suspended:
            self.suspended = False
            self.model.expect(self.id, "resumed")

    def stop(self) -> None:
        del self.model.machines[self.id]
        for timer in self.timers.values():
            self.withdraw(timer.sent)
        self.timers = {}
        self.drain()
        self.model.expect(self.id, "stopped")
        for watchers in self.model.watchers.values():
            watchers.pop(self, None)
        self.model.ended(self.id)

    def crash(self) -> None:
        """Come back as the journal has it: with what was postponed, promised or begun, and what was to come in time."""
        current, notices = self.current, [sent for sent in self.queue if sent.kind == "ended"]
        if current is not None and current.kind == "ended":
            notices.insert(0, current)
        own = [sent for sent in [current, *self.own] if sent is not None and sent.is_own]
        aside = [
            sent for sent in [current, *self.released, *self.postponed] if sent is not None and sent.is_aside
        ]
        promised = [sent for sent in [current, *self.queue] if sent is not None and sent.is_promised]
        self.own, self.queue = deque(own), deque(promised)
        self.released, self.postponed = deque(sorted(aside, key=lambda sent: sent.aside_since)), []
        self.current = self.paused_until = None
        self.restarts, self.streak, self.resumed_at = [], 0, 0.0
        self.stopping = self.is_held = False
        for sent in self.waiting():
            sent.deadline, sent.is_ask, sent.twins = None, False, []
        self.ids = {sent.event_id: sent for sent in self.released if sent.event_id}
        self.model.accepted += len(self.waiting())
        for timer in self.timers.values():
            timer.waits = False
            timer.due -= ROUNDED_S
        for sent in notices:
            self.notify(sent.tag.removeprefix("end "), late=True)

    def drain(self) -> None:
        for sent in [
            sent for sent in self.queue if not (sent.is_there or self.model.is_buried(self.id, sent))
        ]:
            self.withdraw(sent)
        for sent in self.waiting():
            self.undelivered(sent)
        for lane in (self.own, self.postponed, self.released, self.queue):
            lane.clear()

    def undelivered(self, sent: Sent) -> None:
        self.timers = {name: timer for name, timer in self.timers.items() if timer.sent is not sent}
        if not sent.is_ask:
            self.model.bury(self.id, sent)
        self.model.end(self.id, sent, "dead_lettered")
