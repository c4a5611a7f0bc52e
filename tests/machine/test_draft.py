"""The draft of a turn: lazy, copied on write, and nothing of it in the committed data before the commit."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, field_validator

from actorfsm import Event, Machine, ReadOnly, StaleTurn, after_transition, on_enter, transition
from actorfsm.machine.data import DataRules
from actorfsm.machine.draft import Drafts, show_fields
from actorfsm.machine.machine import definition_of
from tests.machine.puppet_turn import PuppetTurn, commit

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.rule("C2")


class State(Enum):
    A = 1
    B = 2


class Line(BaseModel):
    sku: str
    tags: list[str] = []


@dataclass
class Address:
    street: str
    notes: list[str]


class Parcel:
    """An object of the user's own, without any structure that could be known."""

    def __init__(self) -> None:
        self.stamps = ["a"]


class Go(Event):
    what: str = ""


class Order(Machine[State], initial=State.A):
    n: int = 0
    lines: list[Line] = [Line(sku="x")]
    by_sku: dict[str, list[int]] = {"x": [1]}
    tags: set[str] = {"new"}
    pair: tuple[list[int], int] = ([1], 2)
    address: Address = Address("Main", ["bell"])
    parcel: Any = None
    queue: deque[int] = deque([1])

    @transition(State.A, to=State.B)
    def go(self, event: Go) -> None: ...

    @transition(State.B, to=State.A)
    def back(self, event: Go) -> None: ...


RULES = DataRules(definition_of(Order))
DRAFTS = Drafts(Order)


def opened(data: dict[str, Any], **options: Any) -> tuple[Any, PuppetTurn]:
    turn = PuppetTurn(**options)
    turn.data = data
    turn.machine = DRAFTS.open(turn)
    return turn.machine, turn


def committed() -> dict[str, Any]:
    return RULES.at_birth({"parcel": Parcel()})


def test_an_instance_that_is_only_read_shares_the_committed_data() -> None:
    data = committed()
    order, turn = opened(data)
    assert order.n == 0
    assert order.__dict__ is data
    assert turn.draft is None


def test_the_first_write_takes_a_copy_and_the_committed_data_stays() -> None:
    data = committed()
    order, turn = opened(data)
    order.n = 1
    copy = order.__dict__
    order.n = 2
    assert order.__dict__ is copy
    assert (copy["n"], data["n"]) == (2, 0)
    assert turn.draft is copy
    assert copy["lines"] is data["lines"]


CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "a list": (lambda o: o.lines.append(Line(sku="y")), lambda d: len(d["lines"])),
    "a model in a list": (lambda o: setattr(o.lines[0], "sku", "y"), lambda d: d["lines"][0].sku),
    "a list in a model in a list": (lambda o: o.lines[0].tags.append("t"), lambda d: d["lines"][0].tags[:]),
    "a list in a dict": (lambda o: o.by_sku["x"].append(2), lambda d: d["by_sku"]["x"][:]),
    "a set": (lambda o: o.tags.add("old"), lambda d: sorted(d["tags"])),
    "a list in a tuple": (lambda o: o.pair[0].append(2), lambda d: d["pair"][0][:]),
    "a dataclass": (lambda o: setattr(o.address, "street", "Side"), lambda d: d["address"].street),
    "a list in a dataclass": (lambda o: o.address.notes.append("dog"), lambda d: d["address"].notes[:]),
    "an object": (lambda o: o.parcel.stamps.append("b"), lambda d: d["parcel"].stamps[:]),
    "a deque": (lambda o: o.queue.append(2), lambda d: list(d["queue"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_in_place_is_changed_in_the_draft_only(change: str) -> None:
    act, look = CHANGES[change]
    data = committed()
    kept = dict(data)
    before = look(data)
    order, _ = opened(data)
    act(order)
    assert look(order.__dict__) != before
    assert look(data) == before
    assert all(data[name] is kept[name] for name in kept)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_in_place_and_committed_is_no_longer_shared_with_the_draft(change: str) -> None:
    act, look = CHANGES[change]
    data = committed()
    order, _ = opened(data)
    act(order)
    after = commit(RULES, data, order.__dict__)
    changed = look(after)
    assert changed != look(data)
    act(order)
    assert look(after) == changed


def test_a_mutable_field_is_copied_once_in_a_turn() -> None:
    order, turn = opened(committed())
    assert order.lines is order.lines
    assert order.tags is order.tags
    assert turn.touched == {"lines", "tags"}


def test_a_mutable_field_that_was_written_first_is_read_as_it_was_written() -> None:
    order, turn = opened(committed())
    order.lines = [Line(sku="z")]
    assert [line.sku for line in order.lines] == ["z"]
    order.tags = {"t"}
    order.tags.add("u")
    assert order.tags == {"t", "u"}
    assert turn.touched == {"lines", "tags"}


def test_a_write_and_a_read_of_a_mutable_field_share_one_copy() -> None:
    data = committed()
    order, _ = opened(data)
    order.n = 1
    fields = order.__dict__
    order.lines.append(Line(sku="y"))
    assert order.__dict__ is fields
    assert len(data["lines"]) == 1


def test_where_only_looking_is_allowed_a_write_says_so_and_a_change_in_place_hits_a_copy() -> None:
    data = committed()
    order, _ = opened(data, writable=False)
    with pytest.raises(ReadOnly, match="look only"):
        order.n = 1
    order.lines.clear()
    assert len(data["lines"]) == 1


def test_a_draft_that_is_dropped_shares_the_committed_data_again() -> None:
    data = committed()
    order, turn = opened(data)
    order.lines.clear()
    order.n = 5
    turn.draft = None
    show_fields(order, data)
    assert (order.n, len(order.lines)) == (0, 1)


def test_what_is_no_data_field_cannot_be_written_or_read() -> None:
    order, _ = opened(committed())
    with pytest.raises(AttributeError, match="Order has no data field 'paid'; declare it in the class"):
        order.paid = 1
    with pytest.raises(AttributeError, match="Order has no attribute 'paid'"):
        _ = order.paid
    order.n = 1
    with pytest.raises(AttributeError, match="Order has no data field 'paid'; declare it in the class"):
        order.paid = 1
    with pytest.raises(AttributeError, match="lines"):
        object.__setattr__(order, "lines", [])


class Born(Machine[State], initial=State.A, final=(State.A, State.B)):
    name: str
    lines: list[str]


@pytest.mark.rule("C3")
def test_a_field_that_the_birth_must_set_has_no_value_before() -> None:
    turn = PuppetTurn()
    born: Any = Drafts(Born).open(turn)
    for name in ("name", "lines"):
        with pytest.raises(AttributeError, match=rf"Born\.{name} has no value yet: the birth must set it"):
            getattr(born, name)
    born.name = "b"
    born.lines = ["l"]
    born.lines.append("m")
    assert turn.draft == {"name": "b", "lines": ["l", "m"]}


@pytest.mark.rule("C13")
@pytest.mark.parametrize(
    "use",
    [
        lambda order: order.n,
        lambda order: order.lines,
        lambda order: setattr(order, "n", 1),
        lambda order: order.id,
        lambda order: order.state,
        lambda order: order.services,
        lambda order: order.idempotency_key,
        lambda order: order.now(),
        lambda order: order.tell("a", Go()),
        lambda order: order.next_event(Go()),
        lambda order: order.stop(),
        lambda order: asyncio.run(order.ask("a", Go())),
    ],
)
def test_after_its_turn_every_use_of_the_instance_is_refused(use: Callable[[Any], Any]) -> None:
    order, turn = opened(committed())
    held = [order]
    DRAFTS.close(turn)
    with pytest.raises(StaleTurn, match="after its turn"):
        use(held[0])


@pytest.mark.rule("C13")
def test_after_its_turn_what_the_machine_never_had_is_a_plain_missing_attribute() -> None:
    order, turn = opened(committed())
    DRAFTS.close(turn)
    with pytest.raises(AttributeError, match="no attribute 'paid'"):
        _ = order.paid


def test_an_instance_that_nobody_holds_is_used_again_and_one_that_is_held_is_not() -> None:
    drafts = Drafts(Order)

    def one_turn(held: list[Any]) -> int:
        turn = PuppetTurn()
        turn.data = committed()
        order = turn.machine = drafts.open(turn)
        if held:
            held.append(order)
        drafts.close(turn)
        return id(order)

    first = one_turn([])
    assert one_turn([]) == first
    held: list[Any] = ["somebody"]
    assert one_turn(held) == first
    assert one_turn([]) != first
    with pytest.raises(StaleTurn):
        _ = held[1].n


def test_what_a_hook_finds_on_self_is_what_the_turn_says() -> None:
    order, turn = opened(committed())
    turn.state = State.B
    assert (order.id, order.state, order.services) == ("order-1", State.B, "the services")
    assert (order.idempotency_key, order.now().year) == ("order-1/7/charge", 2024)
    assert order.tell("x", Go(), event_id="e", headers={"a": "b"}) == "receipt"
    assert asyncio.run(order.ask("x", Go(), timeout=3)) == "reply"
    order.next_event(Go(what="more"))
    order.stop()
    assert turn.asked == [
        ("tell", "x", Go(), "e", {"a": "b"}),
        ("ask", "x", Go(), 3, None),
        ("next_event", Go(what="more")),
        ("stop",),
    ]


def test_an_instance_of_the_users_own_is_a_plain_model() -> None:
    order = Order(n=3)
    order.n = 4
    order.lines.append(Line(sku="y"))
    assert (order.n, len(order.lines)) == (4, 2)
    with pytest.raises(AttributeError):
        _ = order.id


def test_a_hook_may_print_compare_and_dump_its_machine() -> None:
    order, _ = opened(RULES.at_birth(None))
    other, _ = opened(RULES.at_birth(None))
    assert repr(order).startswith("Order(n=0, lines=[Line(sku='x'")
    assert order.model_dump(include={"n", "lines"}) == {"n": 0, "lines": [{"sku": "x", "tags": []}]}
    assert order == other


def test_a_validator_may_set_fields_of_the_model_that_it_validates() -> None:
    from pydantic import model_validator

    class Sum(Machine[State], initial=State.A, final=(State.B,)):
        a: int = 1
        total: int = 0

        @model_validator(mode="after")
        def add(self) -> Sum:
            self.total = self.a + 1
            return self

        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None: ...

    rules = DataRules(definition_of(Sum))
    born = rules.at_birth({"a": 4})
    assert born == {"a": 4, "total": 5}
    assert commit(rules, born, {"a": 6, "total": 5}) == {"a": 6, "total": 7}


# -- in a real turn -------------------------------------------------------------------------------------------------


def test_an_after_hook_sees_what_was_committed_and_what_it_changes_in_place_is_lost(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Shop(Machine[State], initial=State.A):
        n: int = 0
        text: str = ""
        lines: list[str] = []

        @field_validator("text")
        @classmethod
        def lower(cls, value: str) -> str:
            return value.lower()

        @transition(State.A, to=State.B)
        def go(self, event: Go) -> None:
            self.n += 1
            self.text = event.what

        @transition(State.B, to=State.A)
        def back(self, event: Go) -> None:
            self.lines.append("back")
            self.text = event.what

        @after_transition
        def look(self, old: State, new: State, event: Event[Any]) -> None:
            seen.append((self.n, self.text, list(self.lines)))
            self.lines.append("after")

    seen: list[Any] = []

    async def scenario() -> None:
        seen.clear()
        async with system_of(Shop) as system:
            shop = await system.spawn(Shop, "shop")
            await shop.ask(Go(what="ONE"))
            await shop.ask(Go(what="TWO"))
            assert shop.snapshot().data == {"n": 1, "text": "two", "lines": ["back"]}
        assert seen == [(0, "", []), (1, "one", []), (1, "two", ["back"])]

    sim(scenario)


def test_what_a_guard_changes_in_place_is_not_committed_with_the_transition(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    def meddle(machine: Any, event: Any) -> bool:
        machine.lines.append("guard")
        return True

    class Shop(Machine[State], initial=State.A, final=(State.B,)):
        lines: list[str] = []

        @transition(State.A, to=State.B, when=meddle)
        def go(self, event: Go) -> None:
            self.lines.append("body")

    async def scenario() -> None:
        async with system_of(Shop) as system:
            shop = await system.spawn(Shop, "shop")
            await shop.ask(Go())
            assert shop.snapshot().data == {"lines": ["body"]}

    sim(scenario)


@pytest.mark.rule("C10")
def test_events_replies_data_and_snapshots_share_nothing(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Fill(Event[list[int]]):
        numbers: list[int]

    class Box(Machine[State], initial=State.A):
        numbers: list[int] = []

        @transition(State.A, to=State.B)
        def fill(self, event: Fill) -> list[int]:
            self.numbers = event.numbers
            return self.numbers

        @transition(State.B, to=State.A)
        def empty(self, event: Go) -> None: ...

        @on_enter(State.B)
        def see(self, old: State, new: State, event: Fill) -> None:
            kept.append(event.numbers)

    kept: list[list[int]] = []

    async def scenario() -> None:
        async with system_of(Box) as system:
            box = await system.spawn(Box, "box")
            event = Fill(numbers=[1])
            reply = await box.ask(event)
            snapshot = box.snapshot()
            for shared in (event.numbers, reply, snapshot.data["numbers"], kept[-1]):
                shared.append(9)
            assert box.snapshot().data == {"numbers": [1]}

    sim(scenario)
