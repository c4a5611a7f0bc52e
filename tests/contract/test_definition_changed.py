"""C28: the class of a stored machine has changed: it loads, or is refused naming what is in the way."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from enum import Enum, auto
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel, Field, field_validator

from actorfsm import (
    STAY,
    Event,
    EventIdConflict,
    Fields,
    Machine,
    Quarantined,
    SchemaMismatch,
    StateTimeout,
    on_timeout,
    postpone,
    transition,
    upcast,
)
from tests.contract.durable import Lives, in_memory

SEEDS = range(1)


class S(Enum):
    FULL = auto()
    EMPTY = auto()


class Slip(BaseModel):
    number: int


class Fill(Event[Slip]):
    litres: int


class Drain(Event[None]):
    where: str


class Tank(Machine[S, Any], initial=S.EMPTY):
    """As it was when it was stored."""

    litres: int = 0
    colour: str = "violet"

    @transition(S.EMPTY, to=S.FULL)
    async def fill(self, event: Fill) -> Slip:
        self.litres = event.litres
        return Slip(number=event.litres)

    @postpone(S.EMPTY)
    @transition(S.FULL, to=S.EMPTY)
    async def drain(self, event: Drain) -> None:
        self.litres = 0

    @on_timeout(S.FULL, after=3600, to=S.EMPTY)
    def leak(self, event: StateTimeout) -> None: ...


class Look(Event[int]):
    """What each class of today takes, to see what it has."""


async def _stored(lives: Lives) -> None:
    """Store a full tank, and an empty one with a postponed event."""
    async with lives.begin(Tank) as system:
        await (await system.spawn(Tank, "full")).ask(Fill(litres=5), event_id="fill")
        await (await system.spawn(Tank, "empty")).tell(Drain(where="here")).accepted()
        await system.clock.advance(1)


async def _why_held(lives: Lives, machine: Any, machine_id: str = "full") -> SchemaMismatch:
    """Return why a machine is held in a system with this class; what is stored of it is as it was."""
    assert lives.store is not None
    before = {name: list(rows) for name, rows in lives.store.rows.items()}
    told: list[BaseException] = []
    async with lives.begin(machine, on_quarantine=lambda _who, error: told.append(error)) as system:
        with pytest.raises(Quarantined, match="cannot be loaded") as caught:
            await system.ask(machine_id, Look())
        await system.clock.advance(1)
        assert machine_id in system.quarantined()
    assert before == lives.store.rows
    cause = caught.value.__cause__
    assert isinstance(cause, SchemaMismatch)
    assert cause in told
    return cause


def _case(scenario: Callable[[Lives], Any]) -> Callable[[], Any]:
    async def run() -> None:
        lives = in_memory()
        await _stored(lives)
        await scenario(lives)

    return run


@pytest.mark.rule("C28")
def test_new_states_and_new_fields_with_defaults_need_nothing(sim: Callable[..., None]) -> None:
    class T(Enum):
        NEW = auto()
        FULL = auto()
        EMPTY = auto()

    class Tank(Machine[T, Any], initial=T.EMPTY):
        litres: int = 0
        colour: str = "violet"
        owner: str = "nobody"

        @transition(T.EMPTY, to=T.FULL)
        async def fill(self, event: Fill) -> Slip: ...

        @transition(T.FULL, to=STAY)
        async def look(self, event: Look) -> int:
            assert self.owner == "nobody"
            return self.litres

        @postpone(T.EMPTY)
        @transition(T.FULL, T.NEW, to=T.EMPTY)
        async def drain(self, event: Drain) -> None: ...

        @on_timeout(T.FULL, after=3600, to=T.NEW)
        def leak(self, event: StateTimeout) -> None: ...

    async def scenario(lives: Lives) -> None:
        async with lives.begin(Tank) as system:
            assert await system.ask("full", Look()) == 5

    sim(_case(scenario), seeds=SEEDS)


class _Looks(Machine[S, Any]):
    @transition(S.EMPTY, S.FULL, to=STAY)
    async def look(self, event: Look) -> int:
        return 1

    @transition(S.EMPTY, to=S.FULL)
    async def fill(self, event: Fill) -> Slip: ...

    @on_timeout(S.FULL, after=3600, to=S.EMPTY)
    def leak(self, event: StateTimeout) -> None: ...


@pytest.mark.rule("C28")
def test_a_removed_field_is_refused_by_its_name_and_an_upcast_takes_it_out(sim: Callable[..., None]) -> None:
    class Tank(_Looks, initial=S.EMPTY):
        litres: int = 0

    async def scenario(lives: Lives) -> None:
        error = await _why_held(lives, Tank)
        assert str(error).startswith(
            "full as entry 2 leaves it: Tank version 1 does not validate: colour: Extra inputs are not permitted."
        )
        assert "@upcast(Tank, from_version=1)" in str(error)
        assert (error.stored, error.version) == ("Tank", 1)
        Tank.schema_version = 2

        @upcast(Tank, from_version=1)
        def without_colour(state: str, fields: Fields) -> tuple[str, Fields]:
            del fields["colour"]
            return state, fields

        async with lives.begin(Tank) as system:
            assert await system.ask("full", Look()) == 1
            assert system.snapshot("full").data == {"litres": 5}

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_field_made_stricter_or_required_is_refused_by_its_name_and_no_value_is_shown(
    sim: Callable[..., None],
) -> None:
    class Stricter(_Looks, initial=S.EMPTY):
        litres: Annotated[int, Field(gt=7)] = 8
        colour: int = 0

    class Required(_Looks, initial=S.EMPTY):
        litres: int
        colour: str
        owner: str

    class Picky(_Looks, initial=S.EMPTY):
        litres: int
        colour: str

        @field_validator("colour")
        @classmethod
        def looks(cls, value: str) -> str:
            return {}[value]  # type: ignore[no-any-return]

    async def scenario(lives: Lives) -> None:
        for cls, said in (
            (Stricter, "litres: Input should be greater than 7; colour: Input should be a valid integer"),
            (Required, "owner: Field required"),
            (Picky, "a validator raised KeyError"),
        ):
            cls.__definition__.name = "Tank"  # type: ignore[union-attr]
            cls.__name__ = "Tank"
            error = await _why_held(lives, cls)
            assert said in str(error)
            assert "full as entry 2" in str(error)
            assert "violet" not in str(error)

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_state_that_is_gone_is_refused_by_its_name(sim: Callable[..., None]) -> None:
    class T(Enum):
        EMPTY = auto()
        BRIMMING = auto()

    class Tank(Machine[T, Any], initial=T.EMPTY):
        litres: int = 0
        colour: str = "violet"

        @transition(T.EMPTY, to=T.BRIMMING)
        async def fill(self, event: Fill) -> Slip: ...

        @transition(T.BRIMMING, to=T.EMPTY)
        async def look(self, event: Look) -> int: ...

    async def scenario(lives: Lives) -> None:
        error = await _why_held(lives, Tank)
        assert (
            "full as entry 2 leaves it: Tank has no state FULL, which is stored; there are EMPTY, BRIMMING"
            in str(error)
        )
        assert "states={'FULL': ...}" in str(error)

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_timeout_that_is_gone_is_refused_by_its_name_until_an_upcast_says_that_it_is(
    sim: Callable[..., None],
) -> None:
    class Tank(Machine[S, Any], initial=S.EMPTY):
        litres: int = 0
        colour: str = "violet"

        @transition(S.EMPTY, to=S.FULL)
        async def fill(self, event: Fill) -> Slip: ...

        @transition(S.FULL, to=S.EMPTY)
        async def look(self, event: Look) -> int:
            return 1

    async def scenario(lives: Lives) -> None:
        error = await _why_held(lives, Tank)
        assert str(error).startswith("full has the timeout leak running in FULL, and Tank has no @on_timeout")
        assert "timeouts={'leak': ...}" in str(error)
        Tank.schema_version = 2

        @upcast(Tank, from_version=1, timeouts={"leak": None})
        def does_not_leak(state: str, fields: Fields) -> tuple[str, Fields]:
            return state, fields

        async with lives.begin(Tank) as system:
            await system.clock.advance(4000)
            assert system.snapshot("full").state is S.FULL
            assert await system.ask("full", Look()) == 1
        assert lives.store is not None
        assert not any(machine_id == "full" for machine_id, _ in lives.store.timers)

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_postponed_event_that_is_not_taken_or_does_not_validate_is_refused_by_its_name(
    sim: Callable[..., None],
) -> None:
    class Forgets(_Looks, initial=S.EMPTY):
        litres: int = 0
        colour: str = "violet"

    def stricter() -> Any:
        class Drain(Event[None]):
            where: int
            how: str

        class Tank(_Looks, initial=S.EMPTY):
            litres: int = 0
            colour: str = "violet"

            @transition(S.FULL, to=STAY)
            async def drain(self, event: Drain) -> None: ...

        return Tank

    async def scenario(lives: Lives) -> None:
        Forgets.__definition__.name = Forgets.__name__ = "Tank"  # type: ignore[union-attr]
        error = await _why_held(lives, Forgets, "empty")
        assert "for empty: Tank does not take Drain version 1: give it a transition" in str(error)
        assert "named='Drain'" in str(error)
        error = await _why_held(lives, stricter(), "empty")
        assert "for empty: Drain version 1 does not validate: where: Input should be a valid integer" in str(
            error
        )
        assert "how: Field required" in str(error)
        assert "@upcast(Drain, from_version=1)" in str(error)
        assert (error.stored, error.version) == ("Drain", 1)

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_machine_whose_class_is_missing_says_what_it_was(sim: Callable[..., None]) -> None:
    class Barrel(_Looks, initial=S.EMPTY):
        litres: int = 0

    async def scenario(lives: Lives) -> None:
        error = await _why_held(lives, Barrel)
        assert str(error).startswith(
            "full is a Tank, and the system has no such class: give it to ActorSystem"
        )
        assert "named='Tank'" in str(error)

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_an_upcast_that_fails_changes_nothing_and_a_mended_one_is_tried_after_a_release(
    sim: Callable[..., None],
) -> None:
    class Tank(_Looks, initial=S.EMPTY):
        schema_version: ClassVar[int] = 2
        litres: int = 0
        colour: str = "violet"

    answers: list[Any] = [
        KeyError("owner"),
        None,
        ("FULL",),
        ("FULL", []),
        (2, {}),
        ("FULL", {"litres": object()}),
        ("BURST", {"litres": 1}),
        ("FULL", {"litres": "a secret"}),
    ]

    @upcast(Tank, from_version=1)
    def second(state: str, fields: Fields) -> tuple[str, Fields]:
        fields["litres"] = "what it does to them is nobody's"
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]  # type: ignore[no-any-return]

    async def scenario(lives: Lives) -> None:
        said: list[str] = []
        while answers:
            error = await _why_held(lives, Tank)
            said.append(str(error).removeprefix("full as entry 2 leaves it: "))
            assert "secret" not in "".join(traceback.format_exception(error))
            answers.pop(0)
        names = second.__qualname__
        assert said[0] == f"the upcast {names} from Tank version 1 raised KeyError"
        assert set(said[1:5]) == {f"the upcast {names} returned no (state, fields)"}
        assert said[5].startswith("what the upcasts of Tank return cannot be written as JSON")
        assert said[6].startswith("Tank has no state BURST (FULL when it was stored)")
        assert "litres: Input should be a valid integer" in said[7]
        answers.append(KeyError("owner"))
        async with lives.begin(Tank) as system:
            with pytest.raises(Quarantined):
                await system.ask("full", Look())
            answers[0] = (S.FULL, {"litres": 6})  # a member is as good as its name
            system.release("full")
            assert await system.ask("full", Look()) == 1
            assert system.snapshot("full").data["litres"] == 6

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_recorded_reply_that_does_not_fit_is_an_error_of_who_asks_again_and_the_machine_runs(
    sim: Callable[..., None],
) -> None:
    def shop(version: int, *, named: str = "Slip") -> Any:
        class Slip(BaseModel):
            schema_version: ClassVar[int] = version
            text: str

        Slip.__name__ = named

        class Fill(Event[Slip]):
            litres: int

        class Tank(_Looks, initial=S.EMPTY):
            litres: int = 0
            colour: str = "violet"

            @transition(S.EMPTY, to=S.FULL)
            async def fill(self, event: Fill) -> Slip: ...  # type: ignore[override]

        return Tank, Fill

    async def scenario(lives: Lives) -> None:
        for version, named, said in (
            (1, "Slip", "entry 2 of full, the reply to Fill: Slip version 1 does not validate: "),
            (2, "Slip", "Slip version 1 cannot be read: Slip has version 2 now, and nothing leads there"),
            (2, "Bill", r"Slip version 1 cannot be read: .* @upcast\(Bill, from_version=1, named='Slip'\)"),
        ):
            machine, fill = shop(version, named=named)
            async with lives.begin(machine) as system:
                with pytest.raises(SchemaMismatch, match=said):
                    await system.ask("full", fill(litres=5), event_id="fill")
                assert await system.ask("full", Look()) == 1
                assert system.quarantined() == []

    sim(_case(scenario), seeds=SEEDS)


@pytest.mark.rule("C24")
@pytest.mark.rule("C28")
def test_an_event_id_from_before_a_field_with_a_default_was_added_is_that_of_the_same_event(
    sim: Callable[..., None],
) -> None:
    class Fill(Event[Slip]):
        litres: int
        hose: str = "short"

    class Tank(_Looks, initial=S.EMPTY):
        litres: int = 0
        colour: str = "violet"

        @transition(S.EMPTY, to=S.FULL)
        async def fill(self, event: Fill) -> Slip: ...  # type: ignore[override]

    async def scenario(lives: Lives) -> None:
        async with lives.begin(Tank) as system:
            assert await system.ask("full", Fill(litres=5), event_id="fill") == Slip(number=5)
            with pytest.raises(EventIdConflict):
                await system.ask("full", Fill(litres=5, hose="long"), event_id="fill")

    sim(_case(scenario), seeds=SEEDS)
