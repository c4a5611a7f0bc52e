"""C3: how machines are born, by `spawn` or by an event, and what a refused birth leaves: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    DefinitionError,
    Directive,
    Event,
    Expired,
    HookFailed,
    InvalidData,
    InvalidEvent,
    Limits,
    Machine,
    MachineExists,
    MailboxFull,
    NoSuchMachine,
    Outcome,
    Redelivery,
    Ref,
    TransitionRequested,
    Vetoed,
    after_transition,
    on_enter,
    transition,
)
from tests.contract.paths import (
    Path,
    Script,
    Style,
    at_rest,
    on_every_async_path,
    on_every_path,
    until,
)


class State(StrEnum):
    PLACED = auto()
    PAID = auto()
    DONE = auto()


class Place(Event[str]):
    amount: int = 1


class Pay(Event[int]): ...


class Finish(Event): ...


class Buy(Event[str]):
    amount: int = 1


class Empty(Event): ...


class Broken(Exception): ...


def machine_of(style: Style, **options: Any) -> Any:
    class Order(Machine[State, Script], initial=State.PLACED, final=(State.DONE,), hook_timeout=1, **options):
        amount: int = 0
        lines: list[str] = []

        @transition(to=State.PLACED)
        @style
        def place(self, event: Place) -> str:
            self.amount += event.amount
            return self.services.play("body", self, f"{self.id} {self.state}")

        @on_enter(State.PLACED)
        @style
        def enter(self, old: State, new: State) -> Any:
            return self.services.play("enter", self)

        @after_transition(State.PLACED)
        @style
        def after(self, old: State, new: State) -> Any:
            return self.services.play("after", self)

        @transition(State.PLACED, to=State.PAID)
        @transition(State.PAID, to=STAY)
        @style
        def pay(self, event: Pay) -> int:
            return self.amount

        @transition(State.PAID, to=State.DONE)
        @style
        def finish(self, event: Finish) -> None: ...

    return Order


ORDER = {style: machine_of(style) for style in Style}


class Ticket(Machine[State], final=(State.PAID, State.DONE)):
    """Born by events only; its required field is set by the body."""

    amount: int
    label: str = "none"

    @transition(to=State.PLACED)
    async def place(self, event: Buy) -> str:
        self.amount = event.amount
        return "placed"

    @transition(to=State.PAID)
    async def empty(self, event: Empty) -> None: ...

    @transition(State.PLACED, to=State.DONE)
    async def finish(self, event: Finish) -> None: ...


def broken(machine: Any) -> Any:
    raise Broken


REFUSALS: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "veto": (lambda machine: False, Vetoed),
    "failure": (broken, HookFailed),
}
on_every_refusal = pytest.mark.parametrize("how", REFUSALS)


@pytest.mark.rule("C3")
@on_every_path
def test_an_event_gives_birth_and_is_answered(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            assert await system.ask("o1", Place(amount=5)) == "o1 placed"
            await at_rest(system)
            snapshot = system.snapshot("o1")
            assert (snapshot.state, snapshot.data, snapshot.seq) == (
                State.PLACED,
                {"amount": 5, "lines": []},
                1,
            )
            assert await system.ask("o1", Pay()) == 5
            path.assert_taken(system, 2)
            outcome = await system.tell("o2", Place(amount=6))
            assert (outcome.kind, outcome.old, outcome.new) == ("committed", None, State.PLACED)
            assert system.ids(ORDER[path.style]) == ["o1", "o2"]

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_birth_event_for_a_living_machine_is_an_event_like_any_other(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            await system.ask("o1", Place(amount=5))
            assert (await system.tell("o1", Place(amount=6))).kind == "unhandled"
            assert system.snapshot("o1").data["amount"] == 5

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_any_other_event_to_an_unknown_id_is_refused_at_once(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        told: list[Outcome] = []
        async with path.system(ORDER[path.style], services=Script()) as system:
            with pytest.raises(NoSuchMachine):
                await system.ask("typo", Pay())
            receipt = system.tell("typo", Pay(), callback=told.append)
            with pytest.raises(NoSuchMachine):
                await receipt.accepted()
            assert system.ids() == []
            assert sum(system.stats().outcomes.values()) == 0
            assert (system.stats().accepted, system.stats().refused) == (0, 2)
        assert [outcome.kind for outcome in told] == ["dead_lettered"]

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.rule("C10")
def test_a_class_without_an_initial_state_cannot_be_spawned(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Ticket) as system:
            with pytest.raises(InvalidEvent, match="born by"):
                await system.spawn(Ticket, "t1")
            with pytest.raises(NoSuchMachine):
                system.snapshot("t1")
            assert await system.ask("t1", Buy(amount=3)) == "placed"

    sim(scenario)


@pytest.mark.rule("C2")
def test_a_birth_whose_data_is_incomplete_at_the_commit_fails_and_leaves_the_id_unknown(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Ticket) as system:
            with pytest.raises(HookFailed, match="amount") as caught:
                await system.ask("t1", Empty())
            assert caught.value.hook == "commit"
            assert system.ids() == []
            assert await system.ask("t1", Buy(amount=3)) == "placed"
            assert system.snapshot("t1").data == {"amount": 3, "label": "none"}

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.parametrize("stage", ["body", "enter"])
@on_every_refusal
@on_every_path
def test_a_refused_or_failed_birth_leaves_the_id_unknown(
    path: Path, how: str, stage: str, sim: Callable[..., None]
) -> None:
    fault, error = REFUSALS[how]
    if (stage, how) == ("body", "veto"):
        fault = veto_by_raising

    async def scenario() -> None:
        script = Script(**{stage: fault})
        async with path.system(ORDER[path.style], services=script) as system:
            with pytest.raises(error):
                await system.ask("o1", Place(amount=5))
            if stage == "enter":
                with pytest.raises(error):
                    await system.spawn(ORDER[path.style], "o1", data={"amount": 9})
                with pytest.raises(error):
                    await system.get_or_spawn(ORDER[path.style], "o1")
            assert system.ids() == []
            with pytest.raises(NoSuchMachine):
                system.snapshot("o1")
            with pytest.raises(NoSuchMachine):
                await system.ask("o1", Pay())
            assert "after" not in script.calls
            script.does.clear()
            assert await system.ask("o1", Place(amount=5)) == "o1 placed"
            assert system.snapshot("o1").data["amount"] == 5
            assert system.stats().balance == 0

    sim(scenario)


def veto_by_raising(machine: Any) -> Any:
    from actorfsm import Veto

    raise Veto("no")


@pytest.mark.rule("C3")
@on_every_refusal
@on_every_path
def test_events_queued_behind_a_refused_birth_are_answered_no_such_machine(
    path: Path, how: str, sim: Callable[..., None]
) -> None:
    fault, error = REFUSALS[how]

    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script(enter=fault)) as system:
            birth = system.tell("o1", Place())
            asker = asyncio.create_task(system.ask("o1", Pay()))
            told = system.tell("o1", Pay())
            assert (await birth).kind == ("vetoed" if error is Vetoed else "failed")
            with pytest.raises(NoSuchMachine):
                await asker
            outcome = await told
            assert (outcome.kind, outcome.error.type) == ("dead_lettered", "NoSuchMachine")
            assert system.ids() == []
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_refusal
@on_every_path
def test_a_second_birth_event_queued_behind_a_refused_one_gives_birth(
    path: Path, how: str, sim: Callable[..., None]
) -> None:
    fault, error = REFUSALS[how]

    async def scenario() -> None:
        answers = [True, False]
        script = Script(enter=lambda machine: fault(machine) if answers.pop() is False else None)
        async with path.system(ORDER[path.style], services=script) as system:
            first = system.tell("o1", Place(amount=1))
            between = system.tell("o1", Pay())
            second = system.tell("o1", Place(amount=2))
            behind = system.tell("o1", Pay())
            assert (await first).kind == ("vetoed" if error is Vetoed else "failed")
            assert (await between).kind == "dead_lettered"
            assert (await second).kind == "committed"
            assert (await behind).reply == 2
            assert (system.snapshot("o1").seq, system.snapshot("o1").data["amount"]) == (2, 2)
            assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C2")
@on_every_refusal
@on_every_async_path
def test_a_refused_spawn_leaves_no_data_to_the_birth_behind_it(
    path: Path, how: str, sim: Callable[..., None]
) -> None:
    fault, error = REFUSALS[how]

    async def scenario() -> None:
        async def slowly(machine: Any) -> Any:
            await asyncio.sleep(0.5)
            return fault(machine)

        script = Script(enter=slowly)
        async with path.system(ORDER[path.style], services=script) as system:
            spawner = asyncio.create_task(
                system.spawn(ORDER[path.style], "o1", data={"amount": 100, "lines": ["refused"]})
            )
            await asyncio.sleep(0.1)
            birth = system.tell("o1", Place(amount=1))
            script.does.pop("enter")
            with pytest.raises(error):
                await spawner
            assert (await birth).kind == "committed"
            assert system.snapshot("o1").data == {"amount": 1, "lines": []}

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_async_path
def test_an_event_that_expires_behind_a_birth_does_not_end_the_birth(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slowly(machine: Any) -> None:
            await asyncio.sleep(0.9)

        async with path.system(ORDER[path.style], services=Script(enter=slowly)) as system:
            birth = asyncio.create_task(system.ask("o1", Place(amount=1)))
            await asyncio.sleep(0.1)
            with pytest.raises(Expired):
                await system.ask("o1", Pay(), timeout=0.3)
            assert await birth == "o1 placed"
            assert await system.ask("o1", Pay()) == 1
            assert system.ids() == ["o1"]

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_async_path
def test_a_birth_that_expires_before_it_begins_leaves_the_id_unknown(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = machine_of(path.style, redelivery=Redelivery(attempts=3, first_delay_s=1))

    async def scenario() -> None:
        script = Script(enter=broken)
        async with path.system(cls, services=script) as system:
            with pytest.raises(Expired):
                await system.ask(
                    "o1", Place(amount=1), timeout=0.5
                )  # it failed once and waits to be tried again
            behind = system.tell("o1", Place(amount=2))
            script.does.clear()
            assert (await behind).kind == "committed"
            script.does["enter"] = broken
            with pytest.raises(Expired):
                await system.ask("o2", Place(amount=1), timeout=0.5)
            await asyncio.sleep(10)
            script.does.clear()
            ref: Ref[Any] = await asyncio.wait_for(system.get_or_spawn(cls, "o2"), 1)
            assert ref.snapshot().data["amount"] == 0

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_failed_birth_that_is_tried_again_is_born_at_last(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(path.style, redelivery=Redelivery(attempts=2))

    async def scenario() -> None:
        fails = [False, True, True]
        script = Script(enter=lambda machine: broken(machine) if fails.pop() else None)
        async with path.system(cls, services=script) as system:
            asker = asyncio.create_task(system.ask("o1", Place(amount=3)))
            await asyncio.sleep(0.01)
            behind = asyncio.create_task(system.ask("o1", Pay()))
            assert await asker == "o1 placed"
            assert await behind == 3
            # and one that never can be leaves nothing
            fails[:] = [True] * 3
            with pytest.raises(HookFailed):
                await system.ask("o2", Place())
            assert system.ids() == ["o1"]
            assert [letter.machine_id for letter in system.dead_letters] == ["o2"]

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_failed_birth_is_no_restart(path: Path, sim: Callable[..., None]) -> None:
    cls = machine_of(path.style, on_failure={Broken: Directive.RESTART})

    async def scenario() -> None:
        async with path.system(cls, services=Script(enter=broken)) as system:
            for _ in range(10):
                with pytest.raises(HookFailed):
                    await system.spawn(cls, "o1")
            assert (system.stats().restarts, system.quarantined(), system.ids()) == (0, [], [])

    sim(scenario)


# -- spawn --------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C3")
@on_every_path
def test_spawn_returns_when_the_machine_is_alive(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(ORDER[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o1", data={"amount": 7, "lines": ["a"]})
            assert "enter" in script.calls
            assert ref.snapshot().data == {"amount": 7, "lines": ["a"]}
            assert (ref.snapshot().state, ref.snapshot().seq) == (State.PLACED, 1)
            await at_rest(system)
            path.assert_taken(system, 1)

    sim(scenario)


@pytest.mark.rule("C10")
@on_every_path
def test_the_data_given_at_birth_is_not_shared_with_the_giver_or_with_other_machines(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        lines = ["a"]
        script = Script(enter=lambda machine: machine.lines.append(machine.id))
        async with path.system(ORDER[path.style], services=script) as system:
            await system.spawn(ORDER[path.style], "o1", data={"lines": lines})
            lines.append("changed afterwards")
            await system.spawn(ORDER[path.style], "o2")
            await system.spawn(ORDER[path.style], "o3")
            await system.ask("o4", Place())
            assert [system.snapshot(f"o{n}").data["lines"] for n in range(1, 5)] == [
                ["a", "o1"],
                ["o2"],
                ["o3"],
                ["o4"],
            ]

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_data_that_does_not_validate_is_refused_and_the_id_stays_unknown(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            for data in ({"amount": "many"}, {"typo": 1}, {"lines": [3]}):
                with pytest.raises(InvalidData):
                    await system.spawn(ORDER[path.style], "o1", data=data)
                with pytest.raises(InvalidData):
                    await system.get_or_spawn(ORDER[path.style], "o1", data=data)
            with pytest.raises(NoSuchMachine):
                await system.ask("o1", Pay())
            await system.spawn(ORDER[path.style], "o1")

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_an_id_is_spawned_once(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], Ticket, services=Script()) as system:
            await system.spawn(ORDER[path.style], "o1", data={"amount": 1})
            with pytest.raises(MachineExists):
                await system.spawn(ORDER[path.style], "o1", data={"amount": 2})
            assert system.snapshot("o1").data["amount"] == 1
            with pytest.raises(MachineExists):  # ids are unique over all classes
                await system.get_or_spawn(Ticket, "o1")
            await system.stop("o1")
            await system.spawn(ORDER[path.style], "o1", data={"amount": 3})
            assert system.snapshot("o1").data["amount"] == 3

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_of_two_spawns_at_the_same_time_one_wins(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(ORDER[path.style], services=script) as system:
            results = await asyncio.gather(
                *(system.spawn(ORDER[path.style], "o1", data={"amount": n}) for n in range(3)),
                return_exceptions=True,
            )
            assert sum(isinstance(result, Ref) for result in results) == 1
            assert sum(isinstance(result, MachineExists) for result in results) == 2
            assert script.calls.count("enter") == 1

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.rule("C24")
@on_every_path
def test_a_spawn_with_the_same_event_id_is_answered_from_the_record(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(ORDER[path.style], services=script) as system:
            for _ in range(2):
                await asyncio.gather(
                    *(
                        system.spawn(ORDER[path.style], "o1", data={"amount": 1}, event_id="create-1")
                        for _ in range(2)
                    )
                )
            assert script.calls.count("enter") == 1
            with pytest.raises(MachineExists):
                await system.spawn(ORDER[path.style], "o1", event_id="create-2")

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_get_or_spawn_at_the_same_time_creates_one_machine_for_all(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        if path.is_async:
            script.does["enter"] = lambda machine: asyncio.sleep(0.5)
        async with path.system(ORDER[path.style], services=script) as system:
            refs = await asyncio.gather(
                *(system.get_or_spawn(ORDER[path.style], "o1", data={"amount": 1}) for _ in range(10))
            )
            assert len(set(refs)) == 1
            assert script.calls.count("enter") == 1
            assert await refs[0].ask(Pay()) == 1

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_async_path
def test_get_or_spawn_that_waits_for_a_birth_which_is_refused_tries_itself(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        refusals = [False]

        async def refuse_once(machine: Any) -> bool:
            await asyncio.sleep(0.5)
            return refusals.pop() if refusals else True

        async with path.system(ORDER[path.style], services=Script(enter=refuse_once)) as system:
            results = await asyncio.gather(
                *(system.get_or_spawn(ORDER[path.style], "o1") for _ in range(5)), return_exceptions=True
            )
            assert sum(isinstance(result, Vetoed) for result in results) == 1
            assert sum(isinstance(result, Ref) for result in results) == 4
            assert system.ids() == ["o1"]

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.rule("C11")
@on_every_async_path
def test_a_spawn_that_is_refused_at_the_door_leaves_the_id_unknown(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slowly(machine: Any) -> None:
            await asyncio.sleep(0.5)

        script = Script(enter=slowly)
        async with path.system(ORDER[path.style], services=script, limits=Limits(pending_asks=1)) as system:
            first = asyncio.create_task(system.spawn(ORDER[path.style], "o1"))
            await until(lambda: system.stats().pending_asks == 1)
            with pytest.raises(MailboxFull):
                await system.spawn(ORDER[path.style], "o2")
            with pytest.raises(MailboxFull):
                await system.ask("o3", Place())
            await first
            await system.spawn(ORDER[path.style], "o2")
            await system.ask("o3", Place())
            assert system.ids() == ["o1", "o2", "o3"]

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.rule("C10")
def test_a_request_for_a_state_of_another_enum_gives_no_birth(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Other(StrEnum):
        PLACED = auto()

    class ByRequest(Machine[State], final=(State.DONE,)):
        @transition(to=State.PLACED)
        async def born(self, event: TransitionRequested) -> None: ...

        @transition(State.PAID, to=State.DONE)
        @transition(State.PLACED, to=State.PAID)
        async def go(self, event: Finish) -> None: ...

    async def scenario() -> None:
        async with system_of(ByRequest) as system:
            for _ in range(2):
                with pytest.raises(InvalidEvent):
                    await system.ask("r1", TransitionRequested(to=Other.PLACED))
            assert system.ids() == []
            await system.ask("r1", TransitionRequested(to=State.PLACED))
            assert system.snapshot("r1").state is State.PLACED

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_events_sent_while_a_machine_is_being_born_wait_for_its_birth(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        if path.is_async:
            script.does["enter"] = lambda machine: asyncio.sleep(0.5)
        async with path.system(ORDER[path.style], services=script) as system:
            spawner = asyncio.create_task(system.spawn(ORDER[path.style], "o1", data={"amount": 4}))
            await until(lambda: "enter" in script.calls)
            if path.is_async:
                with pytest.raises(NoSuchMachine):
                    system.snapshot("o1")  # it is not alive yet
                assert system.ids() == []
            assert await system.ask("o1", Pay()) == 4
            await spawner

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_machine_in_a_final_state_stays_addressable_and_its_id_taken(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(ORDER[path.style], services=Script()) as system:
            ref: Ref[Any] = await system.spawn(ORDER[path.style], "o1")
            await ref.ask(Pay())
            await ref.ask(Finish())
            assert (await ref.tell(Pay())).kind == "unhandled"
            with pytest.raises(MachineExists):
                await system.spawn(ORDER[path.style], "o1")
            assert (await system.get_or_spawn(ORDER[path.style], "o1")).snapshot().state is State.DONE

    sim(scenario)


@pytest.mark.rule("C33")
def test_a_class_that_the_system_does_not_have_cannot_be_spawned(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Ticket) as system:
            with pytest.raises(DefinitionError):
                await system.spawn(ORDER[Style.ASYNC], "o1")

    sim(scenario)
