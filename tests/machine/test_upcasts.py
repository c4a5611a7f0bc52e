"""C28, C33: schema versions and upcasts are checked when they are declared, and chains when a system is made."""

from __future__ import annotations

from enum import Enum, auto
from typing import Annotated, Any, ClassVar, cast

import pytest
from pydantic import BaseModel

from actorfsm import (
    ActorSystem,
    DefinitionError,
    Event,
    Fields,
    Machine,
    StateTimeout,
    on_timeout,
    transition,
    upcast,
)
from actorfsm.journal.entry import Payload
from actorfsm.machine.upcasts import Lineage, check_upcasts, schema_version_of
from actorfsm.runtime.stored_outcomes import StoredOutcomes
from actorfsm.runtime.stored_values import StoredValues, values_of

pytestmark = pytest.mark.rule("C28")


class S(Enum):
    A = auto()
    B = auto()


def _same(state: str, fields: Fields) -> tuple[str, Fields]:
    return state, fields


def _fields(fields: Fields) -> Fields:
    return fields


def _machine(version: int = 3, **members: Any) -> Any:
    class Lamp(Machine[S, Any], initial=S.A):
        schema_version: ClassVar[int] = version

        @transition(S.A, to=S.B)
        async def go(self, event: Go) -> None: ...

        @on_timeout(S.B, after=1, to=S.A)
        def out(self, event: StateTimeout) -> None: ...

    return Lamp


class Go(Event[None]):
    pass


def _event(version: int) -> Any:
    class Ping(Event[None]):
        schema_version: ClassVar[int] = version

    return Ping


def test_a_class_is_of_version_1_unless_it_says_so_and_a_subclass_is_of_its_bases() -> None:
    class Ping(Event[None]):
        schema_version = 2

    class Loud(Ping):
        pass

    class Field(BaseModel):
        schema_version: int = 7

    assert [schema_version_of(cls) for cls in (Go, Ping, Loud, int, Field, list[int])] == [1, 2, 2, 1, 1, 1]

    upcast(Ping, from_version=1)(_fields)
    assert Lineage(Loud).known == {("Loud", 2), ("Loud", 1)}
    assert [step.function for step in Lineage(Loud).steps_from(1)] == [_fields]


@pytest.mark.parametrize(
    ("cls", "from_version", "options", "said"),
    [
        ("Ping", 1, {}, "give the class itself, not 'Ping'"),
        (_event(2), 0, {}, "from_version is a whole number from 1"),
        (_event(2), True, {}, "from_version is a whole number from 1"),
        (_event(2), 2, {}, r"Ping has schema version 2, .* into the future; write `schema_version: .* = 3`"),
        (_event(1), 1, {}, "write `schema_version: ClassVar"),
        (_event(2), 1, {"named": ""}, "give the name that the class had then"),
        (_event(2), 1, {"states": {}}, "states= and timeouts= are for machine classes"),
        (_event(2), 1, {"timeouts": {}}, "states= and timeouts= are for machine classes"),
    ],
)
def test_what_upcast_is_given_is_checked_at_once(
    cls: Any, from_version: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DefinitionError, match=said):
        upcast(cls, from_version=from_version, **options)


def test_an_upcast_is_a_plain_function_of_the_fields_and_for_a_machine_of_its_state_too() -> None:
    async def later(fields: Fields) -> Fields:
        return fields

    for cls, function, said in (
        (_event(2), later, r"a plain function \(fields\) -> \(fields\), not async"),
        (_event(2), _event(1), "a plain function"),
        (_event(2), _same, r"_same takes \(fields\)"),
        (_machine(2), _fields, r"_fields takes \(state, fields\)"),
    ):
        with pytest.raises(DefinitionError, match=said):
            cast("Any", upcast(cls, from_version=1))(function)


def test_two_upcasts_from_one_version_are_refused_but_a_module_may_be_imported_anew() -> None:
    ping = _event(2)
    upcast(ping, from_version=1)(_fields)
    upcast(ping, from_version=1)(_fields)
    with pytest.raises(DefinitionError, match=r"_fields is that already; .* remove one"):

        @upcast(ping, from_version=1)
        def another(fields: Fields) -> Fields:
            return fields


def test_a_class_that_cannot_have_upcasts_says_so() -> None:
    class Fixed(type):
        def __setattr__(cls, name: str, value: object) -> None:
            raise TypeError("immutable")

    class Sealed(metaclass=Fixed):
        schema_version = 2

    with pytest.raises(DefinitionError, match="give a class of your own"):
        upcast(Sealed, from_version=1)(_fields)


def test_a_gap_in_a_chain_is_an_error_when_the_system_is_made_and_names_the_upcast_that_is_missing() -> None:
    lamp = _machine(4)
    upcast(lamp, from_version=1)(_same)
    upcast(lamp, from_version=3)(_same)
    with pytest.raises(
        DefinitionError, match=r"Lamp: .* none from 2, .*; write @upcast\(Lamp, from_version=2\)"
    ):
        ActorSystem(lamp)
    upcast(lamp, from_version=2)(_same)
    ActorSystem(lamp)


def test_old_versions_of_which_nothing_is_left_need_no_upcasts() -> None:
    lamp = _machine(4)
    upcast(lamp, from_version=3)(_same)
    check_upcasts(lamp.__definition__)
    assert Lineage(lamp).known == {("Lamp", 4), ("Lamp", 3)}
    assert "@upcast(Lamp, from_version=2)" in Lineage(lamp).why_not("Lamp", 2)


def test_an_event_of_the_machine_and_its_reply_are_checked_too() -> None:
    class Slip(BaseModel):
        schema_version: ClassVar[int] = 3

    class Ping(Event[Slip | Annotated[int, "a number"] | None]):
        schema_version: ClassVar[int] = 3

    class Lamp(Machine[S, Any], initial=S.A):
        @transition(S.A, to=S.B)
        async def go(self, event: Ping) -> Slip | int | None: ...

        @transition(S.B, to=S.A)
        async def back(self, event: Ping) -> Slip | int | None: ...

    upcast(Ping, from_version=1)(_fields)
    with pytest.raises(DefinitionError, match=r"@upcast\(Ping, from_version=2\)"):
        ActorSystem(Lamp)
    upcast(Ping, from_version=2)(_fields)
    upcast(Slip, from_version=1)(_fields)
    with pytest.raises(DefinitionError, match=r"@upcast\(Slip, from_version=2\)"):
        StoredValues(Lamp, StoredOutcomes())


@pytest.mark.parametrize("version", [0, -1, True, False])
def test_a_version_that_is_none_is_refused(version: Any) -> None:
    with pytest.raises(DefinitionError, match=r"schema_version is .*; give a whole number from 1"):
        check_upcasts(_machine(version).__definition__)


def test_a_version_that_became_a_field_is_refused() -> None:
    with pytest.warns(UserWarning, match="shadows"):

        class Ping(Event[None]):
            schema_version: int = 2  # type: ignore[misc]

    with pytest.raises(
        DefinitionError, match=r"Ping.schema_version is a field; write `schema_version: ClassVar"
    ):
        Lineage(Ping)


def test_a_subclass_that_is_of_an_older_version_than_the_upcasts_it_inherits_is_refused() -> None:
    base = _event(3)
    upcast(base, from_version=2)(_fields)

    class Older(base):  # type: ignore[misc]
        schema_version: ClassVar[int] = 2

    with pytest.raises(
        DefinitionError, match="Older: an upcast leads from version 2, and its schema_version is 2"
    ):
        Lineage(Older)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            {"states": {"OLD": "C"}},
            {},
            "from the state OLD to C, and there is none of that name; there are A, B",
        ),
        ({"states": {"A": "B"}}, {}, "gives up the state A, and there is one"),
        ({"states": {"OLD": "A"}}, {"states": {"OLD": "B"}}, "give up the name OLD twice, for A and for B"),
        ({"timeouts": {"old": "gone"}}, {}, "from the timeout old to gone, .*; there are out"),
        ({"timeouts": {"out": None}}, {}, "gives up the timeout out, and there is one"),
    ],
)
def test_names_that_are_given_up_are_not_used_again_and_lead_to_one_that_there_is(
    first: Any, second: Any, said: str
) -> None:
    lamp = _machine(3)
    upcast(lamp, from_version=1, **first)(_same)
    upcast(lamp, from_version=2, **second)(_same)
    with pytest.raises(DefinitionError, match=said):
        check_upcasts(lamp.__definition__)


def test_names_are_followed_to_the_end_of_the_chain() -> None:
    lamp = _machine(3)
    upcast(lamp, from_version=1, named="Light", states={"X": "Y", "Z": "B"}, timeouts={"a": "b", "c": "d"})(
        _same
    )
    upcast(lamp, from_version=2, states={"Y": "A"}, timeouts={"b": "out", "d": None})(_same)
    check_upcasts(lamp.__definition__)
    lineage = Lineage(lamp)
    assert lineage.states == {"X": "A", "Y": "A", "Z": "B"}
    assert lineage.timeouts == {"a": "out", "b": "out", "c": None, "d": None}
    assert lineage.names == {"Lamp", "Light"}


def test_two_event_classes_that_could_both_be_meant_are_refused_with_a_journal() -> None:
    class Old(Event[None]):
        pass

    class New(Event[None]):
        schema_version: ClassVar[int] = 2

    class Lamp(Machine[S, Any], initial=S.A):
        @transition(S.A, to=S.B)
        async def go(self, event: Old) -> None: ...

        @transition(S.B, to=S.A)
        async def back(self, event: New) -> None: ...

    upcast(New, from_version=1, named="Old")(_fields)
    with pytest.raises(
        DefinitionError, match=r"two event classes Old, both of schema version 1; .* rename Old, New"
    ):
        StoredValues(Lamp, StoredOutcomes())


def test_a_new_class_may_have_the_name_that_another_had_in_the_past() -> None:
    class Old(Event[None]):
        schema_version: ClassVar[int] = 2

    class New(Event[None]):
        schema_version: ClassVar[int] = 2

    class Lamp(Machine[S, Any], initial=S.A):
        @transition(S.A, to=S.B)
        async def go(self, event: Old) -> None: ...

        @transition(S.B, to=S.A)
        async def back(self, event: New) -> None: ...

    upcast(New, from_version=1, named="Old")(_fields)
    values = StoredValues(Lamp, StoredOutcomes())
    assert type(values.event(Payload("Old", 1, "{}"), "here")) is New
    assert type(values.event(Payload("Old", 2, "{}"), "here")) is Old


def test_two_machine_classes_that_could_both_be_meant_are_refused_with_a_journal() -> None:
    lamp, other = _machine(2), _machine(1)
    other.__name__ = other.__definition__.name = "Light"
    upcast(lamp, from_version=1, named="Light")(_same)
    with pytest.raises(DefinitionError, match="Light is stored of machines of two classes, Lamp and Light"):
        values_of({"a": lamp, "b": other})
