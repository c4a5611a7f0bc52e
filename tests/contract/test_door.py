"""C10: only a valid instance of a declared event class gets in, and no mutable object is shared through the door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from actorfsm import (
    STAY,
    Event,
    InvalidEvent,
    Machine,
    Outcome,
    TransitionRequested,
    after_transition,
    on_enter,
    transition,
)
from tests.contract.puppet import STYLES, Do, Eager, Hold, Never, Plain, S, took_path

pytestmark = pytest.mark.rule("C10")
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])


class Foreign(Event):
    """An event of nobody in these systems."""


class DoMore(Do):
    """A subclass of a declared class is another class."""

    more: int = 0


class NotAnEvent(BaseModel):
    script: str = ""
    n: int = 0


class Other(StrEnum):
    RED = auto()


@pytest.fixture
def run(inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    """Run a scenario `(system, scripts)` with the machines a and b of a class."""

    def do(machine: type[Any], scenario: Callable[..., Any], *others: type[Any]) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            async with system_of(machine, *others, services=scripts) as system:
                await system.spawn(machine, "a")
                await system.spawn(machine, "b")
                await scenario(system, scripts)
                assert system.stats().balance == 0

        sim(main)

    return do


async def refused(system: Any, machine_id: Any, event: Any, **options: Any) -> InvalidEvent:
    """Refuse it as an ask and as a tell, from outside; return the error of the ask. Nothing was accepted."""
    before = system.stats().accepted
    with pytest.raises(InvalidEvent) as told:
        system.tell(machine_id, event, **options)
    with pytest.raises(InvalidEvent) as asked:
        await system.ask(machine_id, event, **options)
    assert str(told.value) == str(asked.value)
    assert system.stats().accepted == before
    assert system.dead_letters == ()
    return asked.value


async def refused_in_a_turn(
    system: Any, scripts: Any, machine: Any, machine_id: Any, event: Any, **options: Any
) -> None:
    """Refuse it as an ask and as a tell of a machine, whose turn goes on."""

    def send(machine: Any) -> None:
        with pytest.raises(InvalidEvent):
            machine.tell(machine_id, event, **options)

    async def ask(machine: Any) -> None:
        send(machine)
        if not options:
            with pytest.raises(InvalidEvent):
                await machine.ask(machine_id, event)

    scripts["send"] = send if machine is Plain else ask
    accepted = system.stats().accepted
    await system.ask("a", Do(script="send"))
    assert system.stats().accepted == accepted + 1


# -- classes ---------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Foreign(), "does not take Foreign; it takes Do, Finish, Hold, LetGo, Never"),
        (DoMore(), "does not take DoMore"),
        (TransitionRequested(to=S.BLUE), "does not take TransitionRequested"),
        (
            Outcome(kind="committed", success=True, machine_id="a", event_type="x", event_id="y"),
            "not take Outcome",
        ),
        (NotAnEvent(), "NotAnEvent, which is no event"),
        (Do, "which is no event"),
        ("Do", "str, which is no event"),
        (None, "NoneType, which is no event"),
        ({"script": ""}, "dict, which is no event"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_the_machine_does_not_declare_is_refused_at_the_sender(
    puppet: Any, event: Any, said: str, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        error = await refused(system, "a", event)
        assert said in str(error)
        assert (error.machine_id, error.event) == ("a", event)
        await refused_in_a_turn(system, scripts, puppet, "b", event)
        assert system.snapshot("b").seq == 1

    run(puppet, scenario)


@ALL
def test_what_is_no_event_is_refused_for_an_unknown_id_too(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        for event in (NotAnEvent(), "Do", None):
            await refused(system, "nobody", event)
            await refused_in_a_turn(system, scripts, puppet, "z", event)

    run(puppet, scenario)


@ALL
def test_a_machine_in_its_final_state_refuses_foreign_events_and_answers_unhandled_to_its_own(
    puppet: Any, run: Callable[..., None]
) -> None:
    from actorfsm import Unhandled
    from tests.contract.puppet import Finish

    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Finish())
        await refused(system, "a", Foreign())
        for event in (Do(), Never(), Finish()):
            with pytest.raises(Unhandled) as caught:
                await system.ask("a", event)
            assert (caught.value.state, caught.value.allowed) == (S.END, ())

    run(puppet, scenario)


def test_a_request_for_a_state_of_another_enum_is_refused(run: Callable[..., None]) -> None:
    """Members of two StrEnums compare equal: the classes are compared."""

    class Free(Machine[S], initial=S.RED): ...

    async def scenario(system: Any, scripts: Any) -> None:
        assert Other.RED == S.RED
        error = await refused(system, "a", TransitionRequested(to=Other.RED))
        assert "is not a state of Free" in str(error)
        with pytest.raises(InvalidEvent):
            system.ref(Free, "a").request_transition(Other.RED)
        assert (await system.ref(Free, "a").request_transition(S.BLUE)).kind == "committed"

    run(Free, scenario)


@ALL
@pytest.mark.parametrize("payload", ["nan", "extra", "missing", "wrong type"])
def test_an_invalid_payload_never_becomes_an_event(puppet: Any, payload: str) -> None:
    fields = {"nan": {"n": float("nan")}, "extra": {"x": 1}, "missing": None, "wrong type": {"n": "many"}}[
        payload
    ]

    class Pay(Event):
        amount: Decimal
        share: float = 0

    with pytest.raises(InvalidEvent):
        Pay.from_fields(
            {"amount": "NaN"} if payload == "nan" else {} if fields is None else {"amount": 1, **fields}
        )
    with pytest.raises(ValueError, match="1 validation error"):
        Do(**({"n": "many"} if fields is None else fields))


# -- ids -------------------------------------------------------------------------------------------------------------

BAD_IDS = [
    "",
    "x" * 201,
    "a b",
    "a\n",
    "\na",
    "a\x00",
    "a\x1b[31m",
    "à",
    "注文",
    "a/b",
    "a@b",
    "a\ud800",
    7,
    None,
    b"a",
    1.5,
]


@ALL
@pytest.mark.parametrize("machine_id", BAD_IDS, ids=lambda value: ascii(value)[:12])
def test_a_malformed_machine_id_is_refused(puppet: Any, machine_id: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        error = await refused(system, machine_id, Do())
        assert len(str(error)) < 200
        assert "\n" not in str(error)
        assert "\x1b" not in str(error)
        await refused_in_a_turn(system, scripts, puppet, machine_id, Do())
        for refuse in (
            lambda: system.spawn(puppet, machine_id),
            lambda: system.get_or_spawn(puppet, machine_id),
        ):
            with pytest.raises(InvalidEvent):
                await refuse()
        with pytest.raises(InvalidEvent):
            system.ref(puppet, machine_id)
        assert system.ids() == ["a", "b"]

    run(puppet, scenario)


@ALL
@pytest.mark.parametrize("machine_id", [["a"], {"a": 1}], ids=["list", "dict"])
def test_an_id_that_cannot_even_be_looked_up_is_refused_by_name(
    puppet: Any, machine_id: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await refused(system, machine_id, Do())
        for refuse in (
            lambda: system.spawn(puppet, machine_id),
            lambda: system.get_or_spawn(puppet, machine_id),
        ):
            with pytest.raises(InvalidEvent):
                await refuse()

    run(puppet, scenario)


@ALL
@pytest.mark.parametrize("machine_id", ["x" * 200, "A.b_c:d~e-9", "0", "-", "~"])
def test_a_well_formed_machine_id_is_taken(puppet: Any, machine_id: str, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        ref = await system.spawn(puppet, machine_id)
        assert ref.id == machine_id
        await system.ask(machine_id, Do(n=1))
        assert ref.snapshot().data["done"] == (1,)

    run(puppet, scenario)


BAD_EVENT_IDS = ["", "x" * 201, "a\n", "a\x00b", "\x1b[31m", "a\ud800", "a\u2028b", 7, b"a"]


@ALL
@pytest.mark.parametrize("event_id", BAD_EVENT_IDS, ids=lambda value: ascii(value)[:12])
def test_a_malformed_event_id_is_refused(puppet: Any, event_id: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        error = await refused(system, "a", Do(), event_id=event_id)
        assert "event id" in str(error)
        with pytest.raises(InvalidEvent):
            await system.spawn(puppet, "c", event_id=event_id)
        if event_id:  # a machine derives an id where none is given
            await refused_in_a_turn(system, scripts, puppet, "b", Do(), event_id=event_id)
        assert system.ids() == ["a", "b"]

    run(puppet, scenario)


@ALL
@pytest.mark.parametrize("event_id", ["x" * 200, "payment 1", "注文-42", "a/b?c=d"])
def test_any_printable_event_id_is_taken(puppet: Any, event_id: str, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        keys: list[str] = []
        scripts["key"] = lambda machine: keys.append(machine.idempotency_key)
        for _ in range(2):
            await system.ask("a", Do(script="key"), event_id=event_id)
        assert len(keys) == 1
        assert (await system.tell("b", Do(n=1), event_id=event_id)).event_id == event_id

        def send(machine: Any) -> None:
            machine.tell("b", Do(n=2))

        scripts["send"] = send
        await system.ask(
            "a", Do(script="send"), event_id=event_id[:-1] + "!"
        )  # ids are derived from long ones too
        await asyncio.sleep(0.1)
        assert system.snapshot("b").data["done"] == (1, 2)

    run(puppet, scenario)


# -- nothing mutable is shared ---------------------------------------------------------------------------------------


class Shelf(StrEnum):
    OPEN = auto()
    FULL = auto()


class Door(StrEnum):
    OPEN = auto()


class Item(BaseModel):
    name: str
    tags: list[str] = []


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    parts: tuple[int, ...] = ()


class Put(Event[list[Item]]):
    items: list[Item]


class PutFrozen(Event[Frozen]):
    item: Frozen


class Fill(Event[dict[str, Any]]):
    pass


@dataclass
class Loose:
    items: list[Item]


class Shop(Machine[Shelf], initial=Shelf.OPEN):
    items: list[Item] = []
    item: Frozen | None = None

    @transition(Shelf.OPEN, Shelf.FULL, to=STAY)
    async def put(self, event: Put) -> list[Item]:
        self.services["event"] = event
        self.items = event.items
        return self.items

    @transition(Shelf.OPEN, Shelf.FULL, to=STAY)
    async def put_frozen(self, event: PutFrozen) -> Frozen:
        self.services["event"] = event
        self.item = event.item
        return event.item

    @transition(Shelf.OPEN, to=Shelf.FULL)
    async def fill(self, event: Fill) -> dict[str, Any]:
        self.services["reply"] = reply = {"items": self.items, "loose": Loose(self.items)}
        return reply

    @transition(Shelf.FULL, to=Shelf.OPEN)
    async def empty(self, event: Hold) -> None: ...

    @after_transition(Shelf.FULL)
    async def after(self, old: Shelf, new: Shelf) -> None:
        self.services["reply"]["items"].append(Item(name="scribbled"))
        self.services["seen"] = self.items


def names(system: Any) -> list[str]:
    return [item.name for item in system.snapshot("a").data["items"]]


@pytest.mark.parametrize("how", ["ask", "tell", "in a turn"])
def test_an_event_with_mutable_fields_is_copied_at_the_door(how: str, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        event = Put(items=[Item(name="one", tags=["a"])])
        if how == "ask":
            waiting = asyncio.ensure_future(system.ask("a", event))
            await asyncio.sleep(0)
        else:
            waiting = asyncio.ensure_future(system.tell("a", event).outcome())
        await waiting
        event.items[0].name = "changed by the sender"
        event.items[0].tags.append("b")
        event.items.append(Item(name="two"))
        assert names(system) == ["one"]
        assert system.snapshot("a").data["items"][0].tags == ["a"]
        assert scripts["event"] is not event

    run(Shop, scenario)


def test_an_event_is_copied_when_it_is_sent_and_not_when_it_is_handled(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        event = Put(items=[Item(name="one")])
        receipt = system.tell("a", event)
        event.items.clear()
        await receipt
        assert names(system) == ["one"]

    run(Shop, scenario)


def test_the_machines_data_does_not_share_with_the_event_that_its_hook_holds(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Put(items=[Item(name="one")]))
        scripts["event"].items.append(Item(name="kept by somebody"))
        scripts["event"].items[0].name = "changed"
        assert names(system) == ["one"]

    run(Shop, scenario)


def test_a_reply_is_a_copy(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        reply = await system.ask("a", Put(items=[Item(name="one")]))
        assert reply == [Item(name="one")]
        reply[0].name = "changed by the asker"
        reply.clear()
        assert names(system) == ["one"]
        filled = await system.ask("a", Fill())
        assert [item.name for item in filled["items"]] == [
            "one"
        ]  # what the after-hook did to its own comes too late
        filled["loose"].items.clear()
        assert names(system) == ["one"]
        scripts["seen"].clear()  # the list that the after-hook kept
        assert names(system) == ["one"]

    run(Shop, scenario)


def test_a_snapshot_is_a_copy(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Put(items=[Item(name="one", tags=["a"])]))
        snapshot = system.snapshot("a")
        snapshot.data["items"][0].tags.append("b")
        snapshot.data["items"].clear()
        snapshot.data.clear()
        assert names(system) == ["one"]
        assert system.snapshot("a").data["items"][0].tags == ["a"]

    run(Shop, scenario)


def test_the_data_of_a_spawn_is_a_copy(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        items = [Item(name="one")]
        await system.stop("a")
        await system.spawn(Shop, "a", data={"items": items})
        items[0].name = "changed by the caller"
        items.clear()
        assert names(system) == ["one"]

    run(Shop, scenario)


def test_two_machines_do_not_share_their_defaults(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        system.snapshot("a").data["items"].append(Item(name="scribbled"))
        await system.ask("a", Put(items=[Item(name="one")]))
        assert system.snapshot("b").data["items"] == []

    run(Shop, scenario)


def test_an_outcome_is_a_copy(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        outcomes: list[Outcome] = []
        receipt = system.tell("a", Put(items=[Item(name="one")]), callback=outcomes.append)
        outcome = await receipt
        outcome.reply[0].name = "changed"
        outcome.reply.clear()
        await asyncio.sleep(0.1)
        assert outcomes[0].reply == [Item(name="one")]
        assert names(system) == ["one"]

    run(Shop, scenario)


def test_a_message_of_a_machine_does_not_share_with_its_data(run: Callable[..., None]) -> None:
    class Sender(Machine[Door], initial=Door.OPEN):
        items: list[Item] = []

        @transition(Door.OPEN, to=STAY)
        async def put(self, event: Put) -> list[Item]:
            self.items = event.items
            message = Put(items=self.items)
            self.tell("a", message)
            self.items[0].name = "changed after the tell"
            message.items[0].name = "and so was the message"
            return []

    async def scenario(system: Any, scripts: Any) -> None:
        await system.spawn(Sender, "sender")
        await system.ask("sender", Put(items=[Item(name="one")]))
        await asyncio.sleep(0.1)
        assert names(system) == ["one"]
        scripts["event"].items[0].name = "changed by the receiver"
        assert system.snapshot("sender").data["items"][0].name == "and so was the message"

    run(Shop, scenario, Sender)


def test_what_cannot_change_is_passed_as_it_is(inline: bool, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        event = PutFrozen(item=Frozen(name="x", parts=(1, 2)))
        reply = await system.ask("a", event)
        assert scripts["event"] is event
        assert reply is event.item
        assert system.snapshot("a").data["item"] is event.item
        await system.tell("b", event)
        assert scripts["event"] is event
        assert system.snapshot("b").data["item"] is event.item
        assert took_path(system.stats(), Shop, inline=inline)

    run(Shop, scenario)


# -- births ----------------------------------------------------------------------------------------------------------


def test_a_typing_error_never_creates_a_machine(run: Callable[..., None]) -> None:
    from actorfsm import NoSuchMachine

    class Open(Event):
        pass

    class Account(Machine[Shelf], initial=Shelf.OPEN):
        @transition(to=Shelf.OPEN)
        async def open(self, event: Open) -> None: ...

        @transition(Shelf.OPEN, to=Shelf.FULL)
        async def fill(self, event: Never) -> None: ...

        @transition(Shelf.FULL, to=Shelf.OPEN)
        async def empty(self, event: Hold) -> None: ...

        @on_enter(Shelf.OPEN)
        async def enter(self, old: Shelf, new: Shelf) -> None:
            assert old is new

    async def scenario(system: Any, scripts: Any) -> None:
        for event in (Never(), Do(), Foreign()):
            with pytest.raises(NoSuchMachine) as caught:
                await system.ask("acount-1", event)
            assert (caught.value.machine_id, caught.value.event) == ("acount-1", event)
        assert system.ids() == ["a", "b"]
        await system.ask("account-1", Open())
        assert system.ids(Account) == ["account-1"]

    run(Eager, scenario, Account)
