"""C7, C23, C24 with a journal: the Outcome for the machine named in `reply_to` is stored with what it tells of."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from actorfsm import STAY, Event, Fields, Machine, Outcome, Veto, postpone, transition, upcast
from actorfsm.check_upgrade.check import check_upgrade
from actorfsm.errors import InvalidData, JournalFull
from actorfsm.journal.memory import MemoryJournal, MemoryStore
from actorfsm.journal.verify import verify_journal
from actorfsm.testing import SimulatedSystem
from tests.contract.durable import Lives, hold, in_memory, let_go, lives_on_every_journal
from tests.contract.slow_journals import SlowToSay

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class S(Enum):
    OPEN = auto()
    PAID = auto()
    CLOSED = auto()


class Slip(BaseModel):
    cents: int


class Pay(Event[Slip]):
    cents: int


class Refuse(Event[None]):
    reason: str = "not today"


class Break(Event[None]):
    pass


class Late(Event[int]):
    pass


class Pass(Event[None]):
    """Let a machine tell another one, on behalf of a ledger."""

    to: str
    reply_to: str


class Odd(Event[Any]):
    """Its reply would not come back."""


class Close(Event[None]):
    pass


class Order(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
    paid: int = 0

    @transition(S.OPEN, to=S.PAID)
    async def pay(self, event: Pay) -> Slip:
        self.paid += event.cents
        return Slip(cents=event.cents)

    @transition(S.OPEN, to=STAY)
    async def refuse(self, event: Refuse) -> None:
        raise Veto(event.reason)

    @transition(S.OPEN, to=STAY)
    async def fail(self, event: Break) -> None:
        raise ValueError("it breaks")

    @transition(S.OPEN, to=STAY)
    async def odd(self, event: Odd) -> Any:
        return (1, 2)

    @postpone(S.OPEN)
    @transition(S.PAID, to=STAY)
    async def later(self, event: Late) -> int:
        return self.paid

    @transition(S.OPEN, to=STAY)
    async def pass_on(self, event: Pass) -> None:
        self.services["system"].tell(event.to, Pay(cents=7), reply_to=event.reply_to)

    @transition(S.OPEN, S.PAID, to=S.CLOSED)
    async def close(self, event: Close) -> None: ...


class L(Enum):
    OPEN = auto()


class Ledger(Machine[L, Any], initial=L.OPEN):
    seen: tuple[str, ...] = ()

    @transition(L.OPEN, to=STAY)
    async def note(self, event: Outcome) -> None:
        self.seen = (*self.seen, said(event))
        if self.services is not None:
            self.services.setdefault("outcomes", []).append(event)


def said(outcome: Outcome) -> str:
    """Return what a test looks at."""
    more = " again" if outcome.duplicate else ""
    return f"{outcome.event_type} {outcome.kind}{more}"


def begin(lives: Lives, *machines: Any, **options: Any) -> SimulatedSystem[Any]:
    services: dict[str, Any] = {}
    system = lives.begin(*(machines or (Order, Ledger)), services=services, **options)
    services["system"] = system
    return system


def heard(system: Any) -> tuple[str, ...]:
    seen: tuple[str, ...] = system.snapshot("ledger").data["seen"]
    return seen


async def _spawned(system: Any, *orders: str) -> None:
    await system.spawn(Ledger, "ledger")
    for order in orders:
        await system.spawn(Order, order)


async def _next_life_hears(lives: Lives, *expected: str) -> list[Outcome]:
    """Return the Outcomes that the ledger gets in the next life, after which there are no more."""
    async with begin(lives) as system:
        await system.load("ledger")
        await system.clock.advance(0.5)
        assert heard(system) == expected
        outcomes: list[Outcome] = system._parts.services.get("outcomes", [])
    async with begin(lives) as system:
        await system.load("ledger")
        await system.clock.advance(0.5)
        assert heard(system) == expected, "told once"
    return outcomes


@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_what_was_told_to_reply_to_and_not_handled_is_handled_once_in_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    """Every kind of outcome, in order, with what it had of the other machine: states and a typed reply."""

    async def scenario() -> None:
        lives = lives_of()
        told: list[Outcome] = []
        async with begin(lives) as system:
            await _spawned(system, "o", "held")
            hold(system, "ledger")
            events = (Refuse(), Break(), Odd(), Pay(cents=5), Refuse())
            told += [await system.tell("o", event, reply_to="ledger") for event in events]
            hold(system, "held")
            late = system.tell("held", Refuse(), reply_to="ledger", timeout=2)
            await system.clock.advance(3)
            told.append(await late)
            system.tell("nobody", Refuse(), reply_to="ledger")
            await system.clock.advance(0.5)
            await system.shutdown(queues="abandon")
        assert [said(outcome) for outcome in told] == [
            *("Refuse vetoed", "Break failed", "Odd failed", "Pay committed", "Refuse unhandled"),
            "Refuse expired",
        ]
        outcomes = await _next_life_hears(lives, *map(said, told), "Refuse dead_lettered")
        assert outcomes[:-1] == told
        paid = outcomes[3]
        assert (paid.machine, paid.old, paid.new, paid.reply) == ("Order", S.OPEN, S.PAID, Slip(cents=5))
        assert (outcomes[-1].machine, outcomes[-1].machine_id) == ("", "nobody")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
@pytest.mark.parametrize(
    ("event", "kind"), [(Pay(cents=5), "committed"), (Refuse(), "vetoed"), (Break(), "failed")]
)
def test_the_outcome_is_in_the_entry_of_what_it_tells_of(
    sim: Callable[..., None], event: Any, kind: Any
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        assert lives.store is not None
        async with begin(lives) as system:
            await _spawned(system, "o")
            hold(system, "ledger")
            await system.tell("o", event, reply_to="ledger")
            journal = system._parts.journal
            entry = (await journal.entries("o"))[-1]
            (promise,) = entry.promises
            assert (entry.kind, promise.machine_id, promise.message.event.type) == (kind, "ledger", "Outcome")
            assert promise.message.causation_id == entry.message.event_id
            assert list(lives.store.pending) == [promise.key]
            let_go(system, "ledger")
            await system.clock.advance(0.5)
            assert heard(system) == (f"{type(event).__name__} {kind}",)
            assert not lives.store.pending
            assert (await verify_journal(journal)).holds

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_what_is_not_stored_is_not_told_to_reply_to(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Order, Ledger, journal=journal, services={}) as system:
            await _spawned(system, "o")
            for event in (Refuse(), Pay(cents=5)):
                journal.takes_s = 2
                before = heard(system)
                receipt = system.tell("o", event, reply_to="ledger")
                await system.clock.advance(1)
                assert heard(system) == before
                journal.takes_s = 0
                await receipt
                await system.clock.advance(0.5)
                assert len(heard(system)) == len(before) + 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_an_event_told_durably_tells_its_outcome_in_the_life_that_handles_it(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    """Also one that is postponed, and a message of a machine."""

    async def scenario() -> None:
        lives = lives_of()
        async with begin(lives) as system:
            await _spawned(system, "o", "p", "sender")
            await system.tell("p", Late(), reply_to="ledger").accepted()
            await system.clock.advance(0.5)
            hold(system, "o")
            await system.tell("o", Refuse(), durable=True, reply_to="ledger").accepted()
            await system.ask("sender", Pass(to="o", reply_to="ledger"))
            await system.shutdown(queues="abandon")
            assert system.trace.of("ledger")[1:] == []
        async with begin(lives) as system:
            await system.ask("p", Pay(cents=3))
            await system.clock.advance(0.5)
            assert sorted(heard(system)) == ["Late committed", "Pay committed", "Refuse vetoed"]
            assert {o.machine_id: o.reply for o in system._parts.services["outcomes"] if o.reply} == {
                "p": 3,
                "o": Slip(cents=7),
            }
        assert len(await _next_life_hears(lives, *heard(system))) == 0

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_the_same_event_id_tells_the_recorded_outcome_again_in_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with begin(lives) as system:
            await _spawned(system, "o")
            first = await system.tell("o", Pay(cents=5), event_id="pay", reply_to="ledger")
        async with begin(lives) as system:
            assert await system.ask("o", Pay(cents=5), event_id="pay") == Slip(cents=5)
            again = await system.tell("o", Pay(cents=5), event_id="pay", reply_to="ledger")
            assert again == first.model_copy(update={"duplicate": True})
            await system.stop("o")
            await system.clock.advance(0.5)
            hold(system, "ledger")
            await system.tell("o", Pay(cents=5), event_id="pay", durable=True, reply_to="ledger")
            await system.shutdown(queues="abandon")
        (last,) = await _next_life_hears(lives, "Pay committed", *["Pay committed again"] * 2)
        assert last == again

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7")
@pytest.mark.rule("C23")
def test_a_message_that_reaches_nobody_tells_so_with_its_dead_letter(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with begin(lives) as system:
            await _spawned(system, "sender")
            hold(system, "ledger")
            await system.ask("sender", Pass(to="nobody", reply_to="ledger"))
            await system.clock.advance(0.5)
            assert [letter.machine_id for letter in system.dead_letters] == ["nobody"]
            await system.shutdown(queues="abandon")
        (outcome,) = await _next_life_hears(lives, "Pay dead_lettered")
        assert (outcome.machine_id, outcome.error.type if outcome.error else "") == (
            "nobody",
            "NoSuchMachine",
        )

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7")
@pytest.mark.parametrize("receiver", ["nobody", "o"], ids=["dead", "takes no Outcome"])
def test_an_outcome_that_nobody_takes_is_a_dead_letter_also_in_the_next_life(
    sim: Callable[..., None], lives_of: LivesOf, receiver: str
) -> None:
    """It holds nobody: a machine that takes no Outcome has done nothing to be held for."""

    async def scenario() -> None:
        lives = lives_of()
        async with begin(lives) as system:
            await _spawned(system, "o", "p")
            await system.tell("p", Pay(cents=5), reply_to=receiver)
            await system.clock.advance(0.5)
            assert [letter.machine_id for letter in system.dead_letters] == [receiver]
        async with begin(lives) as system:
            await system.clock.advance(0.5)
            assert len(system.dead_letters) == 0
            (letter,) = await system._parts.journal.dead_letters()
            assert letter.machine_id == receiver
            assert await system.ask("o", Pay(cents=1)) == Slip(cents=1)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7")
def test_an_outcome_that_was_only_promised_to_who_takes_none_is_a_dead_letter_of_the_next_life(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        async with begin(lives) as system:
            await _spawned(system, "o", "p")
            fates = iter(["stored"])  # its commit, and then the process dies
            store.fate = lambda: next(fates, "not stored")
            system.tell("p", Pay(cents=5), reply_to="o")
            await system.clock.advance(0.5)
            assert len(store.pending) == 1
            await system.shutdown(queues="abandon")
        store.fate = lambda: "stored"
        async with begin(lives) as system:
            await system.clock.advance(0.5)
            assert [letter.machine_id for letter in system.dead_letters] == ["o"]
            assert not store.pending
            assert await system.ask("o", Pay(cents=1)) == Slip(cents=1)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C25")
def test_that_the_journal_did_not_take_a_commit_is_told_to_reply_to_when_it_takes_that(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        lives = Lives(lambda: MemoryJournal(store), store)
        async with begin(lives) as system:
            await _spawned(system, "o")
            store.fate = lambda: "full"
            receipt = system.tell("o", Pay(cents=5), reply_to="ledger")
            await system.clock.advance(3)
            assert heard(system) == ()
            assert system.stats().unwritten == 1
            store.fate = lambda: "stored"
            outcome = await receipt
            await system.clock.advance(0.5)
            assert heard(system) == ("Pay failed",)
            assert (outcome.error.type if outcome.error else "") == JournalFull.__name__
            assert system.snapshot("o").state is S.OPEN

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C7")
@pytest.mark.rule("C23")
def test_what_the_next_system_handles_is_told_to_reply_to_by_that_one_alone(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    """A plain tell dies with the system, and that is what reply_to hears; a durable one goes on."""

    async def scenario() -> None:
        lives = lives_of()
        async with begin(lives) as system:
            await _spawned(system, "o")
            hold(system, "o")
            plain = system.tell("o", Refuse(reason="plain"), reply_to="ledger")
            await system.tell("o", Refuse(), durable=True, reply_to="ledger").accepted()
            await system.shutdown(queues="abandon")
            assert (await plain).kind == "dead_lettered"
        outcomes = await _next_life_hears(lives, "Refuse dead_lettered", "Refuse vetoed")
        assert [outcome.error.type for outcome in outcomes if outcome.error] == ["SystemStopping", "Vetoed"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C13")
@pytest.mark.rule("C23")
def test_a_reason_that_no_file_can_hold_is_told_all_the_same(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with begin(lives) as system:
            await _spawned(system, "o")
            outcome = await system.tell("o", Refuse(reason="half a \ud83d"), reply_to="ledger")
            await system.clock.advance(0.5)
            assert heard(system) == ("Refuse vetoed",)
            assert outcome.reason == "half a \\ud83d"

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_an_outcome_of_a_machine_that_the_system_does_not_know_is_refused_before_it_is_stored(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        outcome = Outcome(kind="committed", success=True, machine_id="x", event_type="Pay", event_id="e")
        async with begin(in_memory()) as system:
            await _spawned(system)
            for update in ({"reply": 1}, {"old": S.OPEN}, {"machine": "Order", "new": L.OPEN}):
                with pytest.raises(InvalidData, match="the Outcome of Pay at x cannot be stored"):
                    await system.tell("ledger", outcome.model_copy(update=update), durable=True).accepted()
            known = outcome.model_copy(update={"machine": "Order", "new": S.PAID, "reply": Slip(cents=1)})
            told = [system.tell("ledger", known, durable=True, event_id="x") for _ in range(2)]
            assert [(await receipt).duplicate for receipt in told] == [False, True]

    sim(scenario, seeds=SEEDS)


def _newer() -> type[Machine[Any, Any]]:
    class States(Enum):
        OPEN = auto()
        SETTLED = auto()

    class Bill(BaseModel):
        schema_version: ClassVar[int] = 2
        amount: str

    @upcast(Bill, from_version=1, named="Slip")
    def in_words(fields: Fields) -> Fields:
        return {"amount": f"{fields['cents']} cents"}

    class Pay(Event[Bill]):
        cents: int

    class Purchase(Machine[States, Any], initial=States.OPEN, final=(States.SETTLED,)):
        schema_version: ClassVar[int] = 2

        @transition(States.OPEN, to=States.SETTLED)
        async def pay(self, event: Pay) -> Bill:
            return Bill(amount=f"{event.cents} cents")

    @upcast(Purchase, from_version=1, named="Order", states={"PAID": "SETTLED"})
    def settled(state: str, fields: Fields) -> tuple[str, Fields]:
        return state, {}

    return Purchase


async def _left_behind(lives: Lives) -> None:
    """Leave an Outcome that nobody has handled."""
    async with begin(lives) as system:
        await _spawned(system, "o")
        hold(system, "ledger")
        await system.tell("o", Pay(cents=5), reply_to="ledger")
        await system.shutdown(queues="abandon")


@pytest.mark.rule("C28")
def test_check_upgrade_shows_where_an_outcome_lands_whether_its_receiver_takes_it_or_not(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        await _left_behind(lives)
        journal = lives.journal()
        await journal.open()
        for classes, lands in (([Order, Ledger], 1), ([Order, _deaf()], 1), ([Ledger], 0)):
            report = await check_upgrade(classes, journal)
            landings = [landing for landing in report.landings if landing.thing == "promised event"]
            assert [landing.lands for landing in landings] == ["Outcome 1"] * lands
        await journal.close()

    sim(scenario, seeds=SEEDS)


def _deaf() -> type[Machine[Any, Any]]:
    class Ledger(Machine[L, Any], initial=L.OPEN):
        @transition(L.OPEN, to=STAY)
        async def close(self, event: Close) -> None: ...

    return Ledger


@pytest.mark.rule("C28")
def test_an_outcome_is_read_by_way_of_the_upcasts_of_the_machine_that_it_tells_of(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives, purchase = lives_of(), _newer()
        await _left_behind(lives)
        async with begin(lives, purchase, Ledger) as system:
            await system.clock.advance(0.5)
            (outcome,) = system._parts.services["outcomes"]
            assert (outcome.machine, outcome.new.name, outcome.reply.amount) == (
                *("Purchase", "SETTLED"),
                "5 cents",
            )

    sim(scenario, seeds=SEEDS)


def _without_the_state() -> type[Machine[Any, Any]]:
    class Order(Machine[L, Any], initial=L.OPEN):
        @transition(L.OPEN, to=STAY)
        async def pay(self, event: Pay) -> Slip:
            return Slip(cents=0)

    return Order


def _without_the_event() -> type[Machine[Any, Any]]:
    class Order(Machine[S, Any], initial=S.OPEN, final=(S.CLOSED,)):
        @transition(S.OPEN, to=S.PAID)
        async def refuse(self, event: Refuse) -> None: ...

        @transition(S.PAID, to=S.CLOSED)
        async def close(self, event: Close) -> None: ...

    return Order


@pytest.mark.rule("C28")
@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ([], "it is a Order, and the system has no such class"),
        ([_without_the_state], "Order has no state PAID"),
        ([_without_the_event], "Order does not take Pay"),
    ],
    ids=["class", "state", "event"],
)
def test_an_outcome_that_cannot_be_read_holds_its_receiver_until_it_can(
    sim: Callable[..., None], classes: list[Any], why: str
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        await _left_behind(lives)
        async with begin(lives, *[make() for make in classes], Ledger) as system:
            await system.clock.advance(0.5)
            assert why in str(system._parts.recovery.broken["ledger"])
        assert len(await _next_life_hears(lives, "Pay committed")) == 1

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C24")
def test_what_a_commit_sends_while_the_system_goes_down_is_delivered_in_the_next_life(
    sim: Callable[..., None],
) -> None:
    """The machines that it is for have been stopped by then, which is no reason to bury it."""

    async def scenario() -> None:
        journal = SlowToSay()
        async with SimulatedSystem(Order, Ledger, journal=journal, services={}) as system:
            await _spawned(system, "o", "p")
            system._parts.services["system"] = system
            journal.takes_s = 2
            system.tell("o", Pass(to="p", reply_to="ledger"), reply_to="ledger")
            await system.clock.advance(1)
            await system.shutdown(queues="abandon")
        lives = Lives(lambda: MemoryJournal(journal.store), journal.store)
        (paid,) = [o for o in await _next_life_hears(lives, "Pass committed", "Pay committed") if o.reply]
        assert paid.reply == Slip(cents=7)

    sim(scenario, seeds=SEEDS)
