"""The books of one P2 seed: what each machine must be, folded from what was committed, and what is owed to it.

They are kept from the records of the trace alone, and from what hooks say that they have begun: that counts from the
commit of their turn on, and not at all if there is none. What comes of a timer, a job or a watch that is not in the
books is a broken promise, as is what is still in them when all had time to come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from actorfsm import Spawn, StateTimeout, Terminated, TimerScope
from tests.campaigns.p2_machines import KEPT, OVERDUE_S, SCRIPTED, Answer, Finish, Job, Tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from actorfsm import Record

CONSEQUENCES = frozenset({Tick, Answer, Terminated, StateTimeout})
"""What comes of something that a machine has begun."""
LEAVING = frozenset({Job, Finish, StateTimeout})
"""What leaves the state, so that timers and jobs of the state end."""
HELD = "its supervisor stopped it"


@dataclass(frozen=True, slots=True)
class Started:
    """A timer that was committed."""

    n: int
    due: float
    scope: TimerScope


@dataclass(slots=True)
class Model:
    """What a machine must be."""

    state: str = ""
    seq: int = 0
    count: int = 0
    log: list[int] = field(default_factory=list)
    entered: float = 0.0
    timers: dict[str, Started] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    watching: dict[str, None] = field(default_factory=dict)
    owed: dict[str, None] = field(default_factory=dict)
    """Whose end it is still to be told."""
    perhaps: dict[str, None] = field(default_factory=dict)
    """Whose end it may be told: when it began to watch, the other was not yet, or no longer, there."""


class Books:
    """The models of the machines of one seed.

    Attributes:
        models: By id, those that are alive.
        held: By id, those that their supervisor has stopped and may start again.
    """

    def __init__(self, say: Callable[[str, str], None], reached: Counter[str]) -> None:
        self.models: dict[str, Model] = {}
        self.held: dict[str, Model] = {}
        self._say = say
        self._reached = reached
        self._drafts: dict[str, list[Callable[[Model, float], None]]] = defaultdict(list)
        self._begun: set[int] = set()
        """The jobs whose start was committed."""
        self._running: set[int] = set()
        """The jobs that have begun."""

    def of(self, machine_id: str) -> Model | None:
        return self.models.get(machine_id) or self.held.get(machine_id)

    # -- what hooks say -------------------------------------------------------------------------------------------

    def attempt_begins(self, machine_id: str) -> None:
        """Forget what hooks said in an attempt that failed: the event is tried again, perhaps with less to say."""
        self._drafts.pop(machine_id, None)

    def will_start_timer(self, machine_id: str, name: str, n: int, after: float, scope: TimerScope) -> None:
        def apply(model: Model, now: float) -> None:
            self._end_timers(model, [name])
            model.timers[name] = Started(n, now + after, scope)

        self._drafts[machine_id].append(apply)

    def will_cancel_timer(self, machine_id: str, name: str) -> None:
        self._drafts[machine_id].append(lambda model, _: self._end_timers(model, [name]))

    def will_start_job(self, machine_id: str, name: str, job: int) -> None:
        def apply(model: Model, now: float) -> None:
            model.jobs[name] = job
            self._begun.add(job)

        self._drafts[machine_id].append(apply)

    def will_cancel_job(self, machine_id: str, name: str) -> None:
        self._drafts[machine_id].append(lambda model, _: model.jobs.pop(name, None))

    def will_watch(self, machine_id: str, peer: str, *, begins: bool) -> None:
        def apply(model: Model, now: float) -> None:
            if not begins:
                for table in (model.watching, model.owed, model.perhaps):
                    table.pop(peer, None)
                return
            other = self.models.get(peer)
            if other is None:
                # Watched already, the end is still to be told, or is in the mail: watching twice is one watch.
                if peer not in model.watching and peer not in model.owed:
                    model.perhaps[peer] = None
            elif other.state == "DONE":
                model.owed[peer] = None
            else:
                model.watching[peer] = None

        self._drafts[machine_id].append(apply)

    def job_begins(self, machine_id: str, job: int) -> None:
        if job in self._running:
            self._reached["job begun again"] += 1
        self._running.add(job)
        if job not in self._begun:
            self._say("C22", f"the job {job} of {machine_id} began, but its turn was not committed")

    # -- what the trace says --------------------------------------------------------------------------------------

    def outcome(self, record: Record, now: float, *, ends_turn: bool) -> None:
        """Follow the outcome of an event; perhaps that of the turn in which hooks have said what they begin."""
        machine_id, event = record.machine_id, record.event
        drafts = self._drafts.pop(machine_id, ()) if ends_turn else ()
        model = self.models.get(machine_id)
        if event.__class__ in CONSEQUENCES:
            if record.name != "dead_lettered":
                self._came(record, model, now)
            elif (known := self.of(machine_id)) is not None:
                _discarded(event, known)
        if record.name == "committed":
            self._committed(record, event, now, drafts)

    def _committed(self, record: Record, event: Any, now: float, drafts: Any) -> None:
        model = self.models.get(record.machine_id)
        if model is None:
            self.models[record.machine_id] = model = self.held.pop(record.machine_id, None) or Model()
        if event.__class__ is Spawn:
            model.count, model.log = 0, []
        elif event.__class__ in SCRIPTED:
            model.count += 1
            left = [-event.n] if event.leaves else []
            model.log = [*model.log, *left, event.n][-KEPT:]
        leaves = event.__class__ in LEAVING or record.source is None
        gone = model.timers and [
            name
            for name, timer in model.timers.items()
            if timer.scope is TimerScope.EVENT or (timer.scope is TimerScope.STATE and leaves)
        ]
        if gone:
            self._end_timers(model, list(gone))
        if leaves:
            if model.state == "BUSY" and event.__class__ is not StateTimeout:
                self._reached["timer of the state cancelled"] += 1
            model.jobs.clear()
            model.entered = now
        model.state, model.seq = record.target or "", record.seq
        for apply in drafts:
            apply(model, now)
        if leaves and model.state == "DONE":
            self._end_timers(model, list(model.timers))
            model.jobs.clear()
            self._ended(record.machine_id)

    def _end_timers(self, model: Model, names: list[str]) -> None:
        for name in names:
            timer = model.timers.pop(name, None)
            if timer is not None:
                self._reached[f"timer of scope {timer.scope} cancelled"] += 1

    def _came(self, record: Record, model: Model | None, now: float) -> None:
        """See that what came of a timer, a job or a watch was to come."""
        event, who = record.event, record.machine_id
        if model is None:
            self._say("C15", f"{record.event_type} came to {who}, which is not there")
        elif isinstance(event, StateTimeout):
            self._reached["timer of the state fired"] += record.name == "committed"
            if record.name == "vetoed":
                model.entered = inf  # used up: it does not come again in this state
            elif now < model.entered + OVERDUE_S:
                self._say("C20", f"{event.name} of {who} came early")
        elif isinstance(event, Tick):
            self._ticked(record, event, model, now)
        elif isinstance(event, Answer):
            name = next((name for name, job in model.jobs.items() if job == event.job), None)
            if name is None:
                self._say("C22", f"the job {event.job} of {who} answered, though it was over")
            else:
                del model.jobs[name]
        elif event.machine_id in model.owed:
            del model.owed[event.machine_id]
            self._reached["Terminated delivered"] += 1
        elif event.machine_id in model.perhaps:
            del model.perhaps[event.machine_id]
            self._reached["Terminated of one that was not there"] += 1
        elif event.machine_id in model.watching and event.machine_id not in self.models:
            del model.watching[event.machine_id]  # its supervisor had stopped it, and has given it up now
        else:
            self._say(
                "C18", f"{who} was told of the end of {event.machine_id}, which it did not watch, or again"
            )

    def _ticked(self, record: Record, event: Tick, model: Model, now: float) -> None:
        name = next((name for name, timer in model.timers.items() if timer.n == event.n), None)
        if name is None:
            self._say(
                "C20", f"{event!r} came to {record.machine_id}, though its timer was cancelled, or again"
            )
            return
        timer = model.timers[name]
        if now < timer.due:
            self._say("C20", f"{event!r} came at {now}, it was due at {timer.due}")
        if record.name == "failed":
            self._reached["timer that comes again"] += 1
            return
        del model.timers[name]
        self._reached[f"timer of scope {timer.scope} fired"] += 1

    def job_failed(self, record: Record) -> None:
        """Follow a job that failed and has nobody to tell."""
        model = self.models.get(record.machine_id)
        if model is not None:
            model.jobs.pop(record.hook or "", None)

    def stopped(self, machine_id: str, reason: str, *, is_declared: bool) -> None:
        """Follow the end of a machine, or of an incarnation that is followed by another."""
        model = self.models.pop(machine_id, None)
        self._drafts.pop(machine_id, None)
        if model is not None and is_declared:
            self.held[machine_id] = model
        if reason != HELD:
            self._ended(machine_id)

    def restarted(self, record: Record) -> None:
        """Follow the beginning of a new incarnation."""
        model = self.held.pop(record.machine_id, None) or self.models.pop(record.machine_id, None)
        if model is None:
            return
        if record.source is not None:
            self.models[record.machine_id] = model
            return
        self.held[record.machine_id] = model  # until it is born anew
        for peer in model.watching:
            if peer not in self.models:  # held, and perhaps given up: the news of that would be in the mail
                model.perhaps[peer] = None
        for table in (model.timers, model.jobs, model.watching):
            table.clear()
        if record.seq == 0:  # it had been given up, with all its mail; who watched it was told
            self._ended(record.machine_id)
            model.owed.clear()
            model.perhaps.clear()

    def _ended(self, machine_id: str) -> None:
        for model in [*self.models.values(), *self.held.values()]:
            if machine_id in model.watching:
                del model.watching[machine_id]
                model.owed[machine_id] = None

    # -- at rest --------------------------------------------------------------------------------------------------

    def all_came(self, now: float) -> None:
        """Say so if something is owed that had time to come: nobody is held, and nothing else happens any more."""
        for machine_id, model in self.models.items():
            # One that dies with any event may have died with one that was postponed, of which there is no record.
            late = [t.n for t in model.timers.values() if t.due < now and t.scope is not TimerScope.EVENT]
            if late:
                self._say("C20", f"the timers {late} of {machine_id} never came")
            if model.state == "BUSY" and now > model.entered + 2 * OVERDUE_S:
                self._say("C20", f"{machine_id} is BUSY for ever")
            if model.jobs:
                self._say("C22", f"the jobs {model.jobs} of {machine_id} never answered")
            if model.owed:
                self._say("C18", f"{machine_id} was never told of the end of {list(model.owed)}")


def _discarded(event: Any, model: Model) -> None:
    """Forget what was to come: a machine was released without its mail."""
    if isinstance(event, StateTimeout):
        model.entered = inf
    elif isinstance(event, Terminated):
        model.owed.pop(event.machine_id, None)
    elif isinstance(event, Tick):
        model.timers = {name: timer for name, timer in model.timers.items() if timer.n != event.n}
    elif isinstance(event, Answer):
        model.jobs = {name: job for name, job in model.jobs.items() if job != event.job}
