"""Replay: the records of a log, one after the other, each held against what its machine is by then.

Pure. What is kept of a machine is bounded: its state, its figures, and its newest event ids. So what lies far back can
only be judged as far as the runtime itself remembers it; nothing legal is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actorfsm.shown import shown
from actorfsm.sinks.fields import LEVELS
from actorfsm.verify_log.laws import Illegal, Law, check_names, check_reaction, law_of
from actorfsm.verify_log.life import RECENT, Life, is_numbered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.machine.definition import Definition
    from actorfsm.trace import Record

__all__ = ["Replay"]

_HANDLED: Final = frozenset({"committed", "vetoed", "unhandled", "failed"})
"""Outcomes that a turn gives."""
_OF_THE_HELD: Final = frozenset({"expired", "dead_lettered", "restarted"})
"""What befalls a machine of the supervision tree that is stopped: its mail is kept for the next incarnation."""
_OUTCOMES: Final = _HANDLED | {"expired", "dead_lettered"}
_OF_THE_MACHINE: Final = frozenset(
    {"started", "restarted", "quarantined", "released", "suspended", "resumed", "stopped"}
)


class Replay:
    """Holds a log against the definitions of its machines, record by record.

    Args:
        definitions: Those of all the machine classes that the log names.
        partial: The log may begin in the middle: what a machine was before its first record is taken from there.
        runs: Several runs of a program wrote to the log: a birth may begin a machine anew.

    Attributes:
        machines: How many machine ids it has seen.
        commits: How many transitions.
    """

    def __init__(
        self, definitions: Iterable[Definition], *, partial: bool = False, runs: bool = False
    ) -> None:
        self._laws = {law.name: law for law in map(law_of, definitions)}
        self._partial = partial
        self._runs = runs
        self._lives: dict[str, Life] = {}
        self.commits = 0

    @property
    def machines(self) -> int:
        """How many machine ids were born, or seen alive."""
        return len(self._lives)

    def see(self, record: Record) -> None:
        """Take the next record.

        Raises:
            Illegal: It cannot follow; what comes after it means nothing.
        """
        name = record.name
        if name in _OUTCOMES:
            # Refused at the door, or for a machine that was never born: it says nothing about a machine.
            if name != "dead_lettered" or record.source is not None:
                self._outcome(record)
        elif name in _OF_THE_MACHINE:
            self._of_the_machine(record)
        elif name == "after_hook_failed":
            self._after_hook(record)
        elif name not in LEVELS:
            raise Illegal(f"there is no record {shown(name)!r}")

    # -- whose it is ----------------------------------------------------------------------------------------------

    def _law(self, record: Record) -> Law:
        law = self._laws.get(record.machine)
        if law is None:
            raise Illegal(
                f"its machine class {shown(record.machine) or 'is not named'} is not one of "
                f"{', '.join(self._laws)}: name it too, as module:Class"
            )
        return law

    def _life(self, law: Law, record: Record) -> Life | None:
        """Return what is known of the machine; None if it is not born, which the record agrees with."""
        life = self._lives.get(record.machine_id)
        if life is not None and record.source is None and (life.state is not None or life.stopped):
            if not (life.stopped or self._runs):
                raise Illegal(f"is for a machine that is not born, but it is, and is in {life.state}")
            return None
        if life is not None:
            if life.law is not law:
                raise Illegal(f"the id belongs to a {life.law.name}")
            if life.stopped and record.name not in _OF_THE_HELD:
                raise Illegal("the machine was stopped, and has not been born or restarted since")
            return life
        if record.source is None:
            return None
        if not self._partial:
            raise Illegal(
                f"begins in {shown(record.source)}, but the machine has not been born: if the log begins in the "
                "middle, pass --partial"
            )
        return self._adopt(law, record)

    def _adopt(self, law: Law, record: Record) -> Life:
        """Begin with a machine where a log that is not whole shows it first."""
        begins = record.name in {"restarted", "quarantined"}
        seq = record.seq - (record.name == "committed")
        life = Life(law, record.source, seq, record.incarnation - begins, whole=False)
        self._lives[record.machine_id] = life
        return life

    # -- events -----------------------------------------------------------------------------------------------------

    def _outcome(self, record: Record) -> None:
        law = self._law(record)
        check_names(law, record)
        if record.duplicate:
            self._duplicate(law, record)
            return
        life = self._life(law, record)
        if life is None:
            _check_birth(record)
        else:
            _check_place(life, record, commits=record.name == "committed")
            if life.held and record.name in _HANDLED:
                raise Illegal("the machine is in quarantine, and has not been released")
        check_reaction(law, record)
        if record.name == "committed":
            self._commit(life or self._born(law, record.machine_id), record)
        elif life is not None:
            life.refuse(record)

    def _born(self, law: Law, machine_id: str) -> Life:
        former = self._lives.get(machine_id)
        life = self._lives[machine_id] = Life(law, None, 0, 0, whole=True)
        if former is not None:
            life.follow(former)
        return life

    def _commit(self, life: Life, record: Record) -> None:
        before = life.find(record.event_id)
        if before is not None and not (
            # Each id that displaces another is one of an event that ended since, or ends later.
            life.ended - before[0] > life.law.remembered or _may_come_twice(record)
        ):
            raise Illegal(
                f"event {shown(record.event_id)} was committed before, and this is no duplicate of it"
            )
        life.commit(record)
        self.commits += 1

    def _duplicate(self, law: Law, record: Record) -> None:
        """Check an event that was answered with the outcome of an earlier one with the same id."""
        life = self._lives.get(record.machine_id)
        if life is None:
            if record.name == "committed" and not self._partial:
                raise Illegal("is a duplicate of a commit, but the machine is not born")
            return
        if life.law is not law:
            raise Illegal(f"the id belongs to a {life.law.name}")
        _check_figures(life, record, life.seq)
        if record.source == life.state and record.name in {"expired", "dead_lettered"}:
            return  # its own deadline, or it had waited outside with the event that it joined
        known = life.refused.get(record.event_id)
        commit = life.find(record.event_id)
        if commit is not None and (known is None or record.name == "committed"):
            known = ("committed", *commit[1:])
        if known is None and life.whole and (record.name == "committed" or len(life.refused) < RECENT):
            raise Illegal(f"is a duplicate, but no event {shown(record.event_id)} has ended here")
        if known is not None and known != (record.name, record.source, record.target, record.event_type):
            raise Illegal(
                f"is a duplicate of an event {known[3]} that was {known[0]}, from {known[1]} to {known[2]}"
            )

    def _after_hook(self, record: Record) -> None:
        law = self._law(record)
        reaction = law.reaction(record)
        target, hook = record.target or "", record.hook or ""
        beside = hook in reaction.detached.get(target, ())
        if not beside and hook not in reaction.afters.get(target, ()):
            raise Illegal(f"{shown(hook)} is no after-hook from {shown(record.source)} to {shown(target)}")
        life = self._lives.get(record.machine_id)
        if life is None:
            if not self._partial:
                raise Illegal("an after-hook ran, but the machine has not been born")
        elif beside:
            lives = [life] if life.former is None else [life, life.former]
            commits = [one.find(record.event_id) for one in lives]
            what = (record.source, record.target, record.event_type)
            found = any(commit is not None and commit[1:] == what for commit in commits)
            if not found and (any(commits) or all(one.whole for one in lives)):
                raise Illegal(f"an after-hook ran, but event {shown(record.event_id)} was not committed")
        elif life.last or life.whole:
            self._held_after_hook(life, record)

    def _held_after_hook(self, life: Life, record: Record) -> None:
        """Check an after-hook that held its machine: nothing was committed meanwhile."""
        if life.stopped or record.event_id != life.last or record.target != life.state:
            raise Illegal(f"an after-hook ran, but event {shown(record.event_id)} is not the last commit")
        _check_figures(life, record, life.seq)
        if life.failed_afters is None:
            life.failed_afters = set()
        if record.hook in life.failed_afters:
            raise Illegal(f"the after-hook {shown(record.hook)} of this event has failed already")
        life.failed_afters.add(record.hook)

    # -- the machine --------------------------------------------------------------------------------------------------

    def _of_the_machine(self, record: Record) -> None:
        if record.source is None and record.machine not in self._laws:
            return  # a supervisor or a service
        law = self._law(record)
        if record.source != record.target:
            raise Illegal(f"leads from {record.source} to {record.target}, but it changes no state")
        if record.source is None:
            self._unborn(law, record)
            return
        if record.source not in law.states:
            raise Illegal(f"a {law.name} has no state {shown(record.source)}")
        name, life = record.name, self._life(law, record)
        assert life is not None  # noqa: S101 -- the record has a state
        if name in {"restarted", "quarantined"}:
            if life.held and not life.stopped:
                raise Illegal("the machine is in quarantine, and has not been released")
            if record.incarnation != life.incarnation + 1:
                raise Illegal(f"incarnation is {record.incarnation}, where {life.incarnation + 1} begins")
            life.incarnation += 1
        if name == "released" and life.held is False:
            raise Illegal("the machine is not in quarantine")
        _check_place(life, record, commits=False)
        life.held = {"quarantined": True, "released": False, "restarted": False}.get(name, life.held)
        life.stopped = name == "stopped"

    def _unborn(self, law: Law, record: Record) -> None:
        """Follow what befalls a machine of the supervision tree that is not born yet, or is to be born anew."""
        life = self._lives.get(record.machine_id)
        if record.name != "restarted":
            if life is not None and life.state is not None and not life.stopped and not self._runs:
                raise Illegal(f"is for a machine that is not born, but it is, and is in {life.state}")
            if life is not None and record.name == "stopped":
                life.stopped = True
            return
        if life is None or (self._runs and record.incarnation != life.incarnation + 1):
            life = Life(law, None, record.seq, record.incarnation - 1, whole=not self._partial)
        elif life.state not in {None, *law.finals} and not life.stopped:
            raise Illegal(f"is to be born anew, but is in {life.state}")
        if record.incarnation != life.incarnation + 1:
            raise Illegal(f"incarnation is {record.incarnation}, where {life.incarnation + 1} begins")
        if record.seq not in {0, life.seq}:
            raise Illegal(f"seq is {record.seq}, where it must be {life.seq}, or 0 if nothing was kept")
        if record.seq != life.seq:  # nothing was kept
            former, life = life, Life(law, None, 0, life.incarnation, whole=life.whole)
            life.follow(former)
        life.state, life.incarnation, life.held, life.stopped = None, record.incarnation, False, False
        self._lives[record.machine_id] = life


def _check_place(life: Life, record: Record, *, commits: bool) -> None:
    """Check that a record begins where the machine is."""
    if record.source != life.state:
        raise Illegal(f"begins in {record.source}, but the machine is in {life.state}")
    _check_figures(life, record, life.seq + commits)


def _check_figures(life: Life, record: Record, seq: int) -> None:
    if record.incarnation != life.incarnation:
        raise Illegal(f"incarnation is {record.incarnation}, but it is {life.incarnation}")
    if record.seq != seq:
        raise Illegal(f"seq is {record.seq}, where it must be {seq}")


def _check_birth(record: Record) -> None:
    """Check the figures of an event that met a machine which was not born."""
    committed = record.name == "committed"
    if record.seq != committed:
        raise Illegal(f"seq is {record.seq}, where a birth that was {record.name} has {int(committed)}")
    if record.incarnation:
        raise Illegal(f"incarnation is {record.incarnation}, where a birth has 0")


def _may_come_twice(record: Record) -> bool:
    """Return whether its id is derived from a cause that may have been applied twice.

    That is right under one explicit id at two machines, or at one that was stopped in between.
    """
    return record.causation_id is not None and not is_numbered(record.causation_id)
