"""C2: a transition happens as a whole or not at all, whoever refuses it, wherever, on every path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest
from pydantic import BaseModel, Field

from actorfsm import (
    STAY,
    Discarded,
    Event,
    HookFailed,
    InvalidData,
    Machine,
    Ref,
    Veto,
    Vetoed,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    postpone,
    transition,
)
from tests.contract.paths import (
    ASYNC_PATHS,
    PATHS,
    Path,
    Script,
    Style,
    on_every_async_path,
    on_every_path,
    until,
)

STAGES = ("guard", "before", "exit", "body", "enter")


class State(StrEnum):
    CART = auto()
    ORDERED = auto()
    DONE = auto()


class Line(BaseModel):
    article: str
    tags: list[str] = []


class Order(Event[str]):
    article: str = "book"


class Note(Event):
    text: str


class Finish(Event): ...


class Raised(Event): ...


class LedgerState(StrEnum):
    OPEN = auto()


class Book(Event[int]):
    amount: int = 1


class Ledger(Machine[LedgerState], initial=LedgerState.OPEN, final=(LedgerState.OPEN,)):
    booked: int = 0

    @transition(LedgerState.OPEN, to=STAY)
    async def book(self, event: Book) -> int:
        self.booked += event.amount
        return self.booked


def cart_of(style: Style) -> type[Machine[State, Script]]:
    class Cart(Machine[State, Script], initial=State.CART, final=(State.DONE,), hook_timeout=1):
        count: int = 0
        limited: int = Field(default=0, le=100)
        lines: list[Line] = []
        index: dict[str, list[str]] = {"tags": []}

        def may_order(self, event: Order) -> bool:
            self.services.play("guard", self)
            return True

        @before_transition
        @style
        def check(self, old: State, new: State, event: Event) -> Any:
            return None if isinstance(event, Raised) else self.services.play("before", self)

        @on_exit(State.CART)
        @style
        def leave(self, old: State, new: State) -> Any:
            return self.services.play("exit", self)

        @transition(State.CART, to=State.ORDERED, when=may_order)
        @style
        def order(self, event: Order) -> str:
            return self.services.play("body", self, "ordered")

        @on_enter(State.ORDERED)
        @style
        def enter(self, old: State, new: State) -> Any:
            return self.services.play("enter", self)

        @after_transition(State.ORDERED)
        @style
        def after(self, old: State, new: State) -> Any:
            return self.services.play("after", self)

        @postpone(State.CART)
        @transition(State.ORDERED, to=STAY)
        @style
        def note(self, event: Note) -> None:
            self.lines.append(Line(article=event.text))

        @transition(State.CART, State.ORDERED, to=STAY)
        @style
        def raised(self, event: Raised) -> None:
            self.services.play("raised", self)

        @transition(State.ORDERED, to=State.DONE)
        @style
        def finish(self, event: Finish) -> None: ...

    return Cart


def change_everything(machine: Any, receipts: list[Any]) -> None:
    """Touch all that a machine has, nested containers too, and send."""
    machine.count += 1
    machine.lines.append(Line(article="draft"))
    machine.lines[0].tags.append("changed")
    machine.index["tags"].append("changed")
    machine.index["more"] = ["changed"]
    machine.next_event(Raised())
    receipts.append(machine.tell("ledger", Book()))


def veto(machine: Any) -> Any:
    raise Veto("no")


def fail(machine: Any) -> Any:
    raise ValueError("broken")


def cancel_oneself(machine: Any) -> Any:
    raise asyncio.CancelledError


async def hang(machine: Any) -> Any:
    await asyncio.sleep(1_000)


async def be_cancelled(machine: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


FAULTS: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "raises a veto": (veto, Vetoed),
    "returns a veto": (lambda machine: Veto("no"), Vetoed),
    "returns False": (lambda machine: False, Vetoed),
    "raises": (fail, HookFailed),
    "raises CancelledError": (cancel_oneself, HookFailed),
    "times out": (hang, HookFailed),
    "is cancelled": (be_cancelled, HookFailed),
}


def cases() -> list[Any]:
    """Every stage with every way to end it badly, on every path where that can be written."""
    found = []
    for path in PATHS:
        for stage in STAGES:
            for name in FAULTS:
                needs_async = name in {"times out", "is cancelled"}
                if needs_async and (stage == "guard" or not path.is_async):
                    continue  # a plain function cannot wait
                if name.startswith("returns") and stage in {"guard", "body"}:
                    continue  # what these return is something else
                found.append(pytest.param(path, stage, name, id=f"{path}-{stage}-{name.replace(' ', '_')}"))
    return found


@pytest.mark.rule("C2")
@pytest.mark.parametrize(("path", "stage", "fault"), cases())
def test_whoever_refuses_state_data_postponed_events_and_messages_are_as_they_were(
    path: Path, stage: str, fault: str, sim: Callable[..., None]
) -> None:
    do, error_class = FAULTS[fault]
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        receipts: list[Any] = []
        outcomes: list[str] = []
        told: list[Any] = []
        script = Script()

        def misbehave(machine: Any) -> Any:
            if stage != "guard":
                change_everything(machine, receipts)
            return do(machine)

        for earlier in STAGES[1 : max(1, STAGES.index(stage))]:
            script.does[earlier] = lambda machine: change_everything(machine, receipts)
        script.does[stage] = misbehave
        async with path.system(
            cart_class, Ledger, services=script, trace=lambda r: outcomes.append(r.name)
        ) as system:
            await system.spawn(Ledger, "ledger")
            data = {"lines": [Line(article="first", tags=["kept"])], "index": {"tags": ["kept"]}}
            cart: Ref[Any] = await system.spawn(cart_class, "cart", data=data)
            waiting = cart.tell(Note(text="later"), callback=told.append)
            await waiting.accepted()
            await until(lambda: system.stats().postponed == 1)
            before = cart.snapshot()
            # Twice, because a fault of the rollback may show only at the second event.
            for _ in range(2):
                outcomes.clear()
                with pytest.raises(error_class) as caught:
                    await cart.ask(Order())
                assert cart.snapshot() == before
                assert outcomes == ["vetoed" if error_class is Vetoed else "failed"]
                assert isinstance(caught.value, Vetoed | HookFailed)
            assert system.stats().postponed == 1
            assert told == []
            assert "after" not in script.calls
            assert "raised" not in script.calls
            assert system.snapshot("ledger").data == {"booked": 0}
            for receipt in receipts:
                with pytest.raises(Discarded):
                    await receipt.accepted()
                with pytest.raises(Discarded):
                    await receipt
            # and the machine goes on as if nothing had been
            script.does.clear()
            assert await cart.ask(Order()) == "ordered"
            await waiting
            assert cart.snapshot().state is State.ORDERED
            assert cart.snapshot().data == {
                **before.data,
                "lines": [Line(article="first", tags=["kept"]), Line(article="later")],
            }
            assert getattr(system.stats(), path.counter) >= 4
            assert system.stats().balance == 0

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C2")
@on_every_path
def test_messages_reply_callbacks_after_hooks_and_the_record_wait_for_the_commit(
    path: Path, sim: Callable[..., None]
) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        seen: list[str] = []
        script = Script(
            body=lambda machine: machine.tell("ledger", Book()) and None,
            enter=lambda machine: seen.append(
                f"enter: {system.snapshot('cart').state}, {ledger.snapshot().seq}"
            ),
            after=lambda machine: seen.append(f"after: {system.snapshot('cart').state}"),
        )

        def sink(record: Any) -> None:
            if record.machine_id == "cart":
                seen.append(f"record: {system.snapshot('cart').state}")

        system = path.system(cart_class, Ledger, services=script, trace=sink)
        async with system:
            ledger = await system.spawn(Ledger, "ledger")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            seen.clear()
            receipt = cart.tell(Order(), callback=lambda outcome: seen.append(f"callback: {outcome.new}"))
            assert (await receipt).reply == "ordered"
            await system.ask("ledger", Book())
        assert seen == ["enter: cart, 1", "record: ordered", "after: ordered", "callback: ordered"]
        assert system.stats().outcomes["committed"] == 5

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_path
def test_data_that_does_not_validate_at_the_commit_fails_the_event(
    path: Path, sim: Callable[..., None]
) -> None:
    cart_class = cart_of(path.style)
    wrong: list[tuple[str, Callable[[Any], Any]]] = [
        ("limited", lambda machine: setattr(machine, "limited", 101)),
        ("count", lambda machine: setattr(machine, "count", "many")),
        ("lines", lambda machine: machine.lines.append("no line")),
        ("tags", lambda machine: setattr(machine.lines[0], "tags", 3)),
    ]

    async def scenario() -> None:
        script = Script()
        async with path.system(cart_class, services=script) as system:
            cart: Ref[Any] = await system.spawn(cart_class, "cart", data={"lines": [Line(article="first")]})
            before = cart.snapshot()
            for field, change in wrong:
                script.does["body"] = lambda machine, change=change: change(machine)
                with pytest.raises(HookFailed, match=field) as caught:
                    await cart.ask(Order())
                assert caught.value.hook == "commit"
                assert isinstance(caught.value.__cause__, InvalidData)
                assert cart.snapshot() == before
            path.assert_taken(system, 1 + len(wrong))

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_path
def test_a_reply_that_the_event_does_not_declare_fails_the_event(
    path: Path, sim: Callable[..., None]
) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        script = Script(body=lambda machine: 3)
        async with path.system(cart_class, services=script) as system:
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            with pytest.raises(HookFailed, match="replied int"):
                await cart.ask(Order())
            assert (cart.snapshot().state, cart.snapshot().seq) == (State.CART, 1)

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_path
def test_what_a_guard_changes_in_nested_data_is_never_committed(path: Path, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        script = Script(guard=lambda machine: machine.lines.append(Line(article="sneaked in")))
        script.does["body"] = lambda machine: setattr(machine, "count", len(machine.lines))
        async with path.system(cart_class, services=script) as system:
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            await cart.ask(Order())
            assert cart.snapshot().data["lines"] == []
            assert cart.snapshot().data["count"] == 0

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_path
def test_what_the_body_leaves_in_the_machine_is_not_shared_with_whoever_gave_or_got_it(
    path: Path, sim: Callable[..., None]
) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        kept: list[Any] = []

        def keep(machine: Any) -> None:
            line = Line(article="kept")
            machine.lines.append(line)
            kept.extend([line, machine.lines])

        async with path.system(cart_class, services=Script(body=keep)) as system:
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            await cart.ask(Order())
            kept[0].tags.append("changed afterwards")
            kept[1].append(Line(article="added afterwards"))
            cart.snapshot().data["lines"].append(Line(article="added to a snapshot"))
            assert cart.snapshot().data["lines"] == [Line(article="kept")]

    sim(scenario)


# -- asks ---------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C2")
@on_every_async_path
def test_an_ask_leaves_at_once_is_not_undone_and_its_repetition_is_answered_from_the_record(
    path: Path, sim: Callable[..., None]
) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        replies: list[int] = []
        script = Script(enter=veto)

        async def book(machine: Any) -> None:
            replies.append(await machine.ask("ledger", Book(amount=5)))
            replies.append(await machine.ask("ledger", Book(amount=7)))

        script.does["body"] = book
        async with path.system(cart_class, Ledger, services=script) as system:
            await system.spawn(Ledger, "ledger")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            for _ in range(2):
                with pytest.raises(Vetoed):
                    await cart.ask(Order(), event_id="order-1")
            assert system.snapshot("ledger").data == {"booked": 12}
            del script.does["enter"]
            await cart.ask(Order(), event_id="order-1")
            assert replies == [5, 12, 5, 12, 5, 12]
            assert system.snapshot("ledger").data == {"booked": 12}
            assert system.stats().duplicates == 4

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_async_path
def test_another_event_asks_anew(path: Path, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        async def book(machine: Any) -> None:
            await machine.ask("ledger", Book(amount=5))

        async with path.system(cart_class, Ledger, services=Script(body=book, enter=veto)) as system:
            await system.spawn(Ledger, "ledger")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            for event_id in ("order-1", "order-2"):
                with pytest.raises(Vetoed):
                    await cart.ask(Order(), event_id=event_id)
            with pytest.raises(Vetoed):
                await cart.ask(Order())
            assert system.snapshot("ledger").data == {"booked": 15}

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_async_path
def test_a_machine_spawned_by_a_hook_is_not_spawned_again_by_a_repetition(
    path: Path, sim: Callable[..., None]
) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        script = Script(enter=veto)

        async def spawn(machine: Any) -> None:
            await system.spawn(Ledger, "ledger")

        script.does["body"] = spawn
        system = path.system(cart_class, Ledger, services=script)
        async with system:
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            with pytest.raises(Vetoed):
                await cart.ask(Order(), event_id="order-1")
            del script.does["enter"]
            await cart.ask(Order(), event_id="order-1")
            assert system.ids(Ledger) == ["ledger"]

    sim(scenario)


def senders(system: Any) -> dict[str, Callable[[Any], Any]]:
    """The ways to tell from inside a turn that do not name `self`."""
    ref = system.ref(Ledger, "ledger")

    async def in_a_helper(tell: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return tell()

    async def gathered(machine: Any) -> Any:
        found = await asyncio.gather(*(in_a_helper(lambda: ref.tell(Book())) for _ in range(2)))
        return found[0]

    async def in_a_group(machine: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(in_a_helper(lambda: system.tell("ledger", Book())))
        return task.result()

    return {
        "ref.tell": lambda machine: ref.tell(Book()),
        "system.tell": lambda machine: system.tell("ledger", Book()),
        "gather": gathered,
        "TaskGroup": in_a_group,
    }


@pytest.mark.rule("C2")
@pytest.mark.parametrize("way", ["ref.tell", "system.tell", "gather", "TaskGroup"])
@on_every_async_path
def test_inside_a_turn_any_tell_means_self_tell(path: Path, way: str, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        receipts: list[Any] = []
        script = Script(enter=veto)

        async def send(machine: Any) -> None:
            sent = senders(system)[way](machine)
            receipts.append(await sent if asyncio.iscoroutine(sent) else sent)

        script.does["body"] = send
        records: list[Any] = []
        system = path.system(cart_class, Ledger, services=script, trace=records.append)
        async with system:
            await system.spawn(Ledger, "ledger")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            with pytest.raises(Vetoed):
                await cart.ask(Order())
            with pytest.raises(Discarded):
                await receipts[0]
            assert system.snapshot("ledger").seq == 1
            del script.does["enter"]
            await cart.ask(Order(), event_id="cause")
            outcome = await receipts[1]
            assert outcome.kind == "committed"
            booked = [record for record in records if record.event_id == outcome.event_id]
            assert [record.causation_id for record in booked] == ["cause"]

    sim(scenario)


@pytest.mark.rule("C2")
@pytest.mark.parametrize("way", ["ref.ask", "system.ask", "gather"])
@on_every_async_path
def test_inside_a_turn_any_ask_means_self_ask(path: Path, way: str, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        script = Script(enter=veto)

        async def ask(machine: Any) -> None:
            ref = system.ref(Ledger, "ledger")
            if way == "gather":
                await asyncio.gather(ref.ask(Book()), system.ask("ledger", Book()))
            elif way == "ref.ask":
                await ref.ask(Book())
            else:
                await system.ask("ledger", Book())

        script.does["body"] = ask
        system = path.system(cart_class, Ledger, services=script)
        async with system:
            await system.spawn(Ledger, "ledger")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            for _ in range(2):  # the same event id: the second time answered from the record
                with pytest.raises(Vetoed):
                    await cart.ask(Order(), event_id="order-1")
            assert system.snapshot("ledger").data == {"booked": 2 if way == "gather" else 1}

    sim(scenario)


class Gateway:
    """A plain service object that knows nothing of machines but a ref."""

    def __init__(self) -> None:
        self.ledger: Any = None
        self.refuse = True

    async def charge(self) -> int:
        self.ledger.tell(Book(amount=100))
        booked: int = await self.ledger.ask(Book(amount=1))
        return booked

    def play(self, name: str, machine: Any, otherwise: Any = None) -> Any:
        if name == "body":
            return self.charge_and_say(otherwise)
        if name == "enter" and self.refuse:
            raise Veto("no")
        return otherwise

    async def charge_and_say(self, otherwise: Any) -> Any:
        await self.charge()
        return otherwise


@pytest.mark.rule("C2")
@on_every_async_path
def test_a_plain_service_object_sends_on_behalf_of_the_turn(path: Path, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        gateway = Gateway()
        async with path.system(cart_class, Ledger, services=gateway) as system:
            gateway.ledger = await system.spawn(Ledger, "ledger")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            for _ in range(2):
                with pytest.raises(Vetoed):
                    await cart.ask(Order(), event_id="order-1")
            # the ask has left, once; the tell has not
            assert system.snapshot("ledger").data == {"booked": 1}
            gateway.refuse = False
            await cart.ask(Order(), event_id="order-1")
            assert await system.ask("ledger", Book(amount=0)) == 101

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_path
def test_a_request_from_inside_a_turn_waits_for_the_commit_too(path: Path, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    class Light(Machine[State], initial=State.CART): ...

    async def scenario() -> None:
        answers: list[Any] = []
        script = Script(enter=veto)
        script.does["body"] = lambda machine: (
            light.request_transition(State.ORDERED, lambda *answer: answers.append(answer)) and None
        )
        async with path.system(cart_class, Light, services=script) as system:
            light = await system.spawn(Light, "light")
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            with pytest.raises(Vetoed):
                await cart.ask(Order())
            assert light.snapshot().state is State.CART
            script.does.pop("enter")
            await cart.ask(Order())
        assert answers == [(True, State.CART, State.ORDERED)]

    sim(scenario)


@pytest.mark.rule("C2")
@pytest.mark.parametrize("path", ASYNC_PATHS, ids=str)
def test_cancelling_the_asker_cancels_neither_hook_nor_commit(path: Path, sim: Callable[..., None]) -> None:
    cart_class = cart_of(path.style)

    async def scenario() -> None:
        async def slowly(machine: Any) -> None:
            await asyncio.sleep(0.5)

        async with path.system(cart_class, services=Script(enter=slowly)) as system:
            cart: Ref[Any] = await system.spawn(cart_class, "cart")
            asker = asyncio.create_task(cart.ask(Order()))
            await asyncio.sleep(0.1)
            asker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asker
            await asyncio.sleep(1)
            assert cart.snapshot().state is State.ORDERED

    sim(scenario)
