"""What holds for a machine whose state is kept in a row or a document, whoever keeps it: run on every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, Protocol

import pytest

from actorfsm import (
    ConcurrentTransition,
    HookFailed,
    InvalidData,
    InvalidEvent,
    Record,
    TransitionRequested,
    Unhandled,
    Vetoed,
)
from tests.integrations.order import Cancel, Note, Notes, OrderState, Pay, Receipt, Ship, Stranger

__all__ = ["LAWS", "Home", "Law"]


class Home(Protocol):
    """Where machines are kept. Each `ask` reads, decides and stores by itself."""

    notes: Notes
    records: list[Record]
    waits: bool
    """Whether hooks can be awaited."""

    async def new(self, **fields: Any) -> Any: ...
    async def ask(self, key: Any, event: Any, *, event_id: str | None = None) -> Any: ...
    async def read(self, key: Any) -> tuple[OrderState, Decimal, str]: ...
    async def write_behind_its_back(self, key: Any, **fields: Any) -> None: ...
    async def ask_after_another(self, key: Any, event: Any, other: Any) -> Any:
        """Read the machine, let `other` be handled elsewhere, then ask the one that was read."""
        ...


Law = Callable[[Home], Coroutine[Any, Any, None]]
LAWS: list[Law] = []
PAY = Pay(amount=Decimal("9.90"))


def law(function: Law) -> Law:
    LAWS.append(function)
    return function


@law
async def a_transition_changes_state_and_data_and_answers(home: Home) -> None:
    key = await home.new()
    assert await home.ask(key, PAY) == Receipt(number="R-9.90")
    assert await home.read(key) == (OrderState.PAYING, Decimal("9.90"), "")
    assert await home.ask(key, Ship()) is None
    assert await home.read(key) == (OrderState.SHIPPED, Decimal("9.90"), "")


@law
async def hooks_run_in_the_order_of_an_actor_and_the_after_hook_sees_what_was_committed(home: Home) -> None:
    key = await home.new()
    await home.ask(key, PAY, event_id="payment-1")
    places = [place for place, *_ in home.notes.done]
    assert places == ["before", "exit", "body", "enter", "after"]
    assert home.notes.done[2] == ("body", OrderState.CREATED)
    assert home.notes.done[-1] == ("after", OrderState.PAYING, Decimal("9.90"))


@law
async def a_veto_leaves_everything_as_it_was(home: Home) -> None:
    home.notes.card_is_good = False
    key = await home.new(note="as it was")
    with pytest.raises(Vetoed) as vetoed:
        await home.ask(key, PAY)
    assert (vetoed.value.by, vetoed.value.reason, vetoed.value.event) == ("charge", "card declined", PAY)
    assert await home.read(key) == (OrderState.CREATED, Decimal(0), "as it was")
    home.notes.card_is_good = True
    await home.ask(key, PAY)


@law
async def a_hook_that_fails_leaves_everything_as_it_was(home: Home) -> None:
    key = await home.new()
    for place in ("before", "exit", "body", "enter"):
        home.notes.fails_in = place
        with pytest.raises(HookFailed) as failed:
            await home.ask(key, PAY)
        assert isinstance(failed.value.__cause__, LookupError)
        assert await home.read(key) == (OrderState.CREATED, Decimal(0), "")


@law
async def an_after_hook_that_fails_undoes_nothing_and_is_recorded(home: Home) -> None:
    key = await home.new()
    home.notes.fails_in = "after"
    assert await home.ask(key, PAY) == Receipt(number="R-9.90")
    assert (await home.read(key))[0] is OrderState.PAYING
    assert [(record.name, record.hook) for record in home.records] == [
        ("committed", None),
        ("after_hook_failed", "audit"),
    ]


@law
async def an_event_without_a_transition_is_unhandled_and_says_what_the_state_takes(home: Home) -> None:
    key = await home.new(state=OrderState.PAYING)
    with pytest.raises(Unhandled) as unhandled:
        await home.ask(key, PAY)
    assert (unhandled.value.state, unhandled.value.allowed) == (OrderState.PAYING, ("Ship", "Cancel"))
    with pytest.raises(Unhandled) as unhandled:
        await home.ask(key, Ship())
    assert unhandled.value.guards == ("has_paid",)


@law
async def an_event_of_another_machine_is_refused_before_any_hook(home: Home) -> None:
    key = await home.new()
    for event in (Stranger(), TransitionRequested(to=OrderState.PAYING)):
        with pytest.raises(InvalidEvent):
            await home.ask(key, event)
    assert home.notes.done == []


@law
async def a_lost_race_is_told_and_nothing_of_it_is_stored(home: Home) -> None:
    key = await home.new()
    with pytest.raises(ConcurrentTransition):
        await home.ask_after_another(key, PAY, Cancel())
    assert await home.read(key) == (OrderState.CANCELLED, Decimal(0), "")
    assert [place for place, *_ in home.notes.done if place == "after"] == []
    assert [record.name for record in home.records] == ["committed", "failed"]


@law
async def a_transition_that_stays_in_its_state_wins_a_race_too(home: Home) -> None:
    key = await home.new()
    with pytest.raises(ConcurrentTransition):
        await home.ask_after_another(key, PAY, Note(text="first"))
    assert await home.read(key) == (OrderState.CREATED, Decimal(0), "first")


@law
async def the_same_event_id_gives_hooks_the_same_key_when_it_is_tried_again(home: Home) -> None:
    key = await home.new()
    with pytest.raises(ConcurrentTransition):
        await home.ask_after_another(key, Pay(amount=Decimal(1)), Note(text="first"))
    home.notes.done.clear()
    home.notes.card_is_good = False
    for event_id in ("payment-1", "payment-1", "payment-2"):
        with pytest.raises(Vetoed):
            await home.ask(key, PAY, event_id=event_id)
    first, again, other = (details[0] for place, *details in home.notes.done if place == "enter")
    assert first == again != other


@law
async def data_that_does_not_fit_the_machine_is_refused_before_any_hook(home: Home) -> None:
    key = await home.new()
    await home.write_behind_its_back(key, note=None)
    with pytest.raises(InvalidData, match="note"):
        await home.ask(key, PAY)
    assert home.notes.done == []


@law
async def each_event_has_one_record(home: Home) -> None:
    key = await home.new()
    with pytest.raises(Unhandled):
        await home.ask(key, Ship())
    home.notes.card_is_good = False
    with pytest.raises(Vetoed):
        await home.ask(key, PAY)
    home.notes.card_is_good = True
    await home.ask(key, PAY, event_id="payment-1")
    seen = [(record.name, record.event_type, record.source, record.target) for record in home.records]
    assert seen == [
        ("unhandled", "Ship", "CREATED", None),
        ("vetoed", "Pay", "CREATED", "PAYING"),
        ("committed", "Pay", "CREATED", "PAYING"),
    ]
    assert home.records[-1].event_id == "payment-1"


@law
async def a_hook_that_hangs_is_given_up_at_its_deadline(home: Home) -> None:
    if not home.waits:
        return
    key = await home.new()
    home.notes.hangs_in = "enter"
    with pytest.raises(HookFailed, match="took longer than"):
        await home.ask(key, PAY)
    assert await home.read(key) == (OrderState.CREATED, Decimal(0), "")


@law
async def a_caller_that_is_cancelled_in_a_hook_leaves_everything_as_it_was(home: Home) -> None:
    if not home.waits:
        return
    key = await home.new()
    home.notes.turns["before"] = asyncio.Event()
    asked = asyncio.create_task(home.ask(key, PAY))
    await home.notes.began.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    del home.notes.turns["before"]
    assert await home.read(key) == (OrderState.CREATED, Decimal(0), "")
    await home.ask(key, PAY)
