"""What a review of the rooms found, each under the rule that it broke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest
from pydantic import Field

from actorfsm import (
    STAY,
    AskCycle,
    AskTimeout,
    Event,
    Expired,
    HookFailed,
    Limits,
    Machine,
    MailboxPolicy,
    Overflow,
    ReadOnly,
    Redelivery,
    StaleTurn,
    StateTimeout,
    Unhandled,
    Veto,
    Vetoed,
    after_transition,
    on_timeout,
    transition,
)
from actorfsm.testing import SimulatedSystem
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path, until


class S(StrEnum):
    A = auto()
    B = auto()


class Work(Event[Any]):
    """Stay, and do what the script says for this machine."""

    n: int = 0


class Listed(Event):
    """An event that a hook can change."""

    items: list[int]


class Move(Event): ...


def worker_of(style: Style, **options: Any) -> Any:
    class Worker(Machine[S, Script], **{"initial": S.A, "hook_timeout": 60, **options}):
        got: tuple[int, ...] = ()

        @transition(S.A, S.B, to=STAY)
        @style
        def work(self, event: Work) -> Any:
            self.got = (*self.got, event.n)
            return self.services.play(f"work {self.id}", self)

        @transition(S.A, S.B, to=STAY)
        @style
        def listed(self, event: Listed) -> Any:
            event.items.append(0)
            self.got = tuple(event.items)
            return self.services.play("listed", self)

        @transition(S.A, to=S.B)
        @transition(S.B, to=S.A)
        @style
        def move(self, event: Move) -> Any:
            return self.services.play("move", self)

    return Worker


def bottom_of(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# -- receipts in the wait-for graph ---------------------------------------------------------------------------------


WAITING = MailboxPolicy(capacity=1, overflow=Overflow.WAIT)


@pytest.mark.rule("C9")
@pytest.mark.parametrize("waits", ["outcome", "accepted"])
@pytest.mark.parametrize("first", ["the receipt", "the ask"])
@on_every_async_path
def test_two_machines_that_wait_for_each_other_through_a_receipt_are_told_at_once(
    path: Path, first: str, waits: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        receipts: list[Any] = []
        gates = {name: asyncio.get_running_loop().create_future() for name in "ab"}

        async def await_receipt(machine: Any) -> None:
            await gates["a"]
            await getattr(receipts[-1], waits)()

        async def ask(machine: Any) -> None:
            await gates["b"]
            await machine.ask("a", Work())

        script = Script(**{"work a": await_receipt, "work b": ask})
        worker = worker_of(path.style, mailbox=WAITING)
        async with path.system(worker, services=script) as system:
            for name in "ab":
                await system.spawn(worker, name)
            asking = {name: asyncio.ensure_future(system.ask(name, Work())) for name in "ab"}
            await until(lambda: len(script.calls) == 2)
            script.does.clear()
            receipts += [system.tell("b", Work()) for _ in range(2)]  # the second waits for room
            order = "ab" if first == "the receipt" else "ba"
            gates[order[0]].set_result(None)
            await until(lambda: len(system._parts.waits))
            gates[order[1]].set_result(None)
            with pytest.raises(HookFailed) as caught:
                await asking[order[1]]
            cycle = bottom_of(caught.value)
            assert isinstance(cycle, AskCycle)
            assert cycle.path[0] == cycle.path[-1] == order[1]
            await asking[order[0]]  # the other has failed, and goes on
            assert asyncio.get_running_loop().time() == 0
            assert len(system._parts.waits) == 0

    sim(scenario)


@pytest.mark.rule("C9")
@on_every_async_path
def test_a_machine_may_wait_in_its_turn_for_a_receipt_of_one_that_does_not_wait_for_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        receipts: list[Any] = []
        script = Script(**{"work a": lambda machine: receipts[0].outcome()})
        worker = worker_of(path.style)
        async with path.system(worker, services=script) as system:
            for name in "ab":
                await system.spawn(worker, name)
            receipts.append(system.tell("b", Work(n=7)))
            outcome = await system.ask("a", Work())
            assert outcome.success
            assert len(system._parts.waits) == 0

    sim(scenario)


# -- asks beside each other, and a second try ------------------------------------------------------------------------


@pytest.mark.rule("C24")
@on_every_async_path
def test_asks_that_begin_in_another_order_at_the_second_try_are_applied_once(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        tries: list[int] = []

        async def ask_both(machine: Any) -> None:
            tries.append(len(tries))
            targets = [("b", 1), ("c", 2)]
            for name, n in targets if len(tries) == 1 else reversed(targets):
                await machine.ask(name, Work(n=n))
            if len(tries) == 1:
                raise ZeroDivisionError

        script = Script(**{"work a": ask_both})
        worker = worker_of(path.style, redelivery=Redelivery(attempts=1))
        async with path.system(worker, services=script) as system:
            for name in "abc":
                await system.spawn(worker, name)
            await system.ask("a", Work())
            assert tries == [0, 1]
            assert system.snapshot("b").data["got"] == (1,)
            assert system.snapshot("c").data["got"] == (2,)

    sim(scenario)


@pytest.mark.rule("C14")
@on_every_path
def test_what_is_delivered_again_is_as_it_was_sent_whatever_a_hook_did_to_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        tries: list[int] = []

        def fail_twice(machine: Any) -> None:
            tries.append(len(machine.got))
            if len(tries) < 3:
                raise ZeroDivisionError

        worker = worker_of(path.style, redelivery=Redelivery(attempts=2))
        async with path.system(worker, services=Script(listed=fail_twice)) as system:
            await system.spawn(worker, "a")
            await system.ask("a", Listed(items=[1]))
            assert tries == [2, 2, 2]
            assert system.snapshot("a").data["got"] == (1, 0)

    sim(scenario)


# -- frozen fields ---------------------------------------------------------------------------------------------------


class Account(Machine[S, Script], initial=S.A, final=(S.B,)):
    owner: str = Field(default="nobody", frozen=True)
    balance: int = 0

    @transition(S.A, to=S.B)
    def move(self, event: Move) -> None:
        self.balance = 5
        self.owner = "thief"


class Inheriting(Account, initial=S.A, final=(S.B,)):
    note: str = ""


class Opened(Event):
    owner: str


class BornByEvent(Machine[S], final=(S.B,)):
    owner: str = Field(frozen=True)

    @transition(to=S.A)
    def open(self, event: Opened) -> None:
        self.owner = event.owner

    @transition(S.A, to=S.B)
    def move(self, event: Move) -> None:
        self.owner = "thief"


@pytest.mark.rule("C2")
@pytest.mark.parametrize("cls", [Account, Inheriting])
def test_a_frozen_field_keeps_the_value_of_its_birth(cls: Any, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(cls) as system:
            ref = await system.spawn(cls, "a", data={"owner": "ada"})
            with pytest.raises(HookFailed, match=r"\.owner is frozen") as caught:
                await ref.ask(Move())
            assert isinstance(caught.value.__cause__, ReadOnly)
            snapshot = ref.snapshot()
            assert (snapshot.data["owner"], snapshot.data["balance"], snapshot.state) == ("ada", 0, S.A)

    sim(scenario)


@pytest.mark.rule("C2")
def test_the_birth_sets_a_frozen_field_and_nothing_else_does(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(BornByEvent) as system:
            await system.ask("a", Opened(owner="ada"))
            with pytest.raises(HookFailed, match=r"\.owner is frozen"):
                await system.ask("a", Move())
            assert system.snapshot("a").data == {"owner": "ada"}

    sim(scenario)


# -- words that are too long, or cannot be said -----------------------------------------------------------------------


@pytest.mark.rule("C11")
@on_every_path
@pytest.mark.parametrize("how", ["veto", "error"])
def test_a_reason_is_passed_on_up_to_a_length(path: Path, how: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        said = "x" * 1_000_000

        def refuse(machine: Any) -> None:
            raise Veto(said) if how == "veto" else ValueError(said)

        records: list[Any] = []
        worker = worker_of(path.style)
        async with path.system(worker, services=Script(move=refuse), trace=records.append) as system:
            await system.spawn(worker, "a")
            with pytest.raises((Vetoed, HookFailed)) as caught:
                await system.ask("a", Move())
            outcome = await system.tell("a", Move())
            letters = [*map(str, system.dead_letters)]
        texts = [str(caught.value), outcome.reason, records[1].reason, *letters]
        texts += [outcome.error.text] if how == "error" else [caught.value.reason]
        assert all("x" * 999 in text and "(1,000,000 characters)" in text for text in texts)
        assert max(map(len, texts)) < 2_200

    sim(scenario)


class Unsayable:
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.rule("C13")
@on_every_path
def test_a_reason_whose_text_cannot_be_made_hurts_nobody(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        unsayable: Any = Unsayable()

        def refuse(machine: Any) -> None:
            raise Veto(unsayable)

        worker = worker_of(path.style)
        async with path.system(worker, services=Script(move=refuse)) as system:
            await system.spawn(worker, "a")
            with pytest.raises(Vetoed) as caught:
                await system.ask("a", Move())
            assert caught.value.reason == "<Unsayable whose text cannot be shown>"
            await system.ask("a", Work())

    sim(scenario)


# -- detached hooks that refuse to end ---------------------------------------------------------------------------------


class Tidy(Machine[S, Script], initial=S.A, final=(S.B,), hook_timeout=2):
    count: int = 0

    @transition(S.A, to=S.B)
    def move(self, event: Move) -> None: ...

    @after_transition(S.B, detached=True)
    async def beside(self, old: S, new: S) -> None:
        await self.services.play("beside", self)


class Stubborn:
    """A hook that refuses to be cancelled until it is let go; then it tries something, and notes what came of it."""

    def __init__(self, tries: Callable[[Any], Any]) -> None:
        self.release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tries = tries
        self.came: Any = None

    async def __call__(self, machine: Any) -> None:
        while not self.release.done():
            try:
                await asyncio.wait([self.release])
            except asyncio.CancelledError:
                continue
        try:
            self.came = await self.tries(machine)
        except Exception as error:
            self.came = error
            raise


async def _look(machine: Any) -> Any:
    return machine.count


@pytest.mark.rule("C3", "C13")
def test_a_detached_hook_that_outlives_its_deadline_and_grace_is_told_and_closed(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        stubborn = Stubborn(_look)
        async with SimulatedSystem(
            Tidy, services=Script(beside=stubborn), limits=Limits(grace_s=1)
        ) as system:
            ref = await system.spawn(Tidy, "a")
            await ref.ask(Move())
            await asyncio.sleep(2.9)
            assert system.stats().after_hooks_failed == 0
            await asyncio.sleep(0.2)
            assert system.stats().after_hooks_failed == 1
            assert "did not end within 1 s" in system.trace.records[-1].reason
            stubborn.release.set_result(None)
            await until(lambda: stubborn.came)
            assert isinstance(stubborn.came, StaleTurn)
            assert system.stats().after_hooks_failed == 1

    sim(scenario)


@pytest.mark.rule("C8", "C19")
def test_what_a_stubborn_hook_asks_after_the_end_is_refused_and_does_not_hang(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        async def ask(machine: Any) -> Any:
            return await system.ask("b", Opened(owner="late"))  # would give birth

        stubborn = Stubborn(ask)
        system: Any = SimulatedSystem(
            Tidy, BornByEvent, services=Script(beside=stubborn), limits=Limits(grace_s=1, stop_timeout_s=1)
        )
        async with system:
            ref = await system.spawn(Tidy, "a")
            await ref.ask(Move())
        assert system.report.unstopped == ("a.beside",)
        stubborn.release.set_result(None)
        await until(lambda: stubborn.came)
        assert isinstance(stubborn.came, StaleTurn)

    sim(scenario)


# -- timeouts, deadlines, notes --------------------------------------------------------------------------------------


def never(machine: Any, event: Any) -> bool:
    return False


def not_now(machine: Any, event: Any) -> bool:
    return False


class Waiting(Machine[S], initial=S.A):
    @on_timeout(S.A, after=1, to=S.B, when=never)
    def first(self, event: StateTimeout) -> None: ...

    @on_timeout(S.A, after=2, to=S.B, when=not_now)
    def second(self, event: StateTimeout) -> None: ...

    @on_timeout(S.B, after=1, to=S.A)
    def back(self, event: StateTimeout) -> None: ...


@pytest.mark.rule("C7", "C20")
def test_a_timeout_that_was_not_taken_names_its_own_guard_alone(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Waiting) as system:
            await system.spawn(Waiting, "a")
            await asyncio.sleep(3)
            errors = [record.error for record in system.trace.records if isinstance(record.error, Unhandled)]
            assert [error.guards for error in errors] == [("never",), ("not_now",)]

    sim(scenario)


@pytest.mark.rule("C8", "C24")
def test_a_duplicate_does_not_know_at_its_deadline_what_becomes_of_the_event_that_it_joined(
    sim: Callable[..., None],
) -> None:
    """The first may outlive it and be done: so it is told that it is not known, though the first turns out expired."""

    async def scenario() -> None:
        worker = worker_of(Style.ASYNC)
        async with SimulatedSystem(
            worker, services=Script(**{"work a": lambda machine: asyncio.sleep(5)})
        ) as system:
            await system.spawn(worker, "a")
            holding = asyncio.ensure_future(system.ask("a", Work()))
            await asyncio.sleep(0.1)
            first = asyncio.ensure_future(system.ask("a", Work(n=1), event_id="x", timeout=2))
            await asyncio.sleep(0.1)
            second = asyncio.ensure_future(system.ask("a", Work(n=1), event_id="x", timeout=1))
            with pytest.raises(AskTimeout):
                await second
            assert asyncio.get_running_loop().time() < 1.5
            with pytest.raises(Expired):
                await first
            await holding

    sim(scenario)


@pytest.mark.rule("C7")
@pytest.mark.parametrize("how", ["ask", "tell", "machine"])
def test_a_hook_may_change_the_list_of_an_event_and_nothing_counts_as_lost(
    how: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        worker = worker_of(Style.PLAIN)
        tells = {"work b": lambda machine: machine.tell("a", Listed(items=[1])) and None}
        async with SimulatedSystem(worker, services=Script(**tells)) as system:
            for name in "ab":
                await system.spawn(worker, name)
            for _ in range(3):
                if how == "ask":
                    await system.ask("a", Listed(items=[1]))
                elif how == "tell":
                    await system.tell("a", Listed(items=[1]))
                else:
                    await system.ask("b", Work())
            assert system.violations() == []
            await until(lambda: system.snapshot("a").seq == 4)
            assert system.violations() == []

    sim(scenario)
