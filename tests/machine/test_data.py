"""The data of a machine: made at birth, validated at each commit, copied for whoever looks."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    field_validator,
    model_validator,
)

from actorfsm import DefinitionError, Event, InvalidData, Machine, transition
from actorfsm.machine.data import DataRules
from actorfsm.machine.machine import definition_of
from tests.machine.puppet_turn import commit

pytestmark = pytest.mark.rule("C2")


class State(Enum):
    A = 1
    B = 2


class Go(Event): ...


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    S = 1
    L = 2


class Base(Machine[State]):
    """A machine that can live; the tests add data."""

    @transition(State.A, to=State.B)
    def go(self, event: Go) -> None: ...

    @transition(State.B, to=State.A)
    def back(self, event: Go) -> None: ...


def rules_of(machine: type[Machine[Any]]) -> DataRules:
    return DataRules(definition_of(machine))


class Plain(Base, initial=State.A):
    number: int = 0
    text: str = ""
    flag: bool = False
    raw: bytes = b""
    money: Decimal = Decimal(0)
    day: date = date(2024, 1, 1)
    moment: datetime = datetime(2024, 1, 1)  # noqa: DTZ001
    pause: timedelta = timedelta(0)
    key: UUID = UUID(int=0)
    colour: Colour = Colour.RED
    size: Size = Size.S
    share: float = 0.0
    small: int = Field(default=1, ge=0, le=9)
    short: Annotated[str, Field(max_length=3)] = ""


class WordyInt(int):
    """A subclass, which is not the plain class."""


VALUES = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
    st.characters(categories=["Cs"]),
    st.binary(max_size=5),
    st.decimals().filter(
        lambda number: not number.is_snan()
    ),  # pydantic itself falls over one, comparing it with a member
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from([*Colour, *Size, None, State.A, "red", "1", "true", b"x", WordyInt(3)]),
    st.integers().map(str),
    st.lists(st.integers(), max_size=2),
)


@pytest.mark.many
@settings(max_examples=400, deadline=None, database=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(list(Plain.model_fields)), VALUES, min_size=1, max_size=3))
def test_the_shortcut_at_the_commit_answers_as_pydantic_does(changes: dict[str, Any]) -> None:
    rules = rules_of(Plain)
    committed = rules.at_birth(None)
    draft = {**committed, **changes}
    try:
        expected: Any = Plain.model_validate(dict(draft)).__dict__
    except ValidationError:
        expected = None
    try:
        answer: Any = commit(rules, committed, draft)
    except InvalidData:
        answer = None
    assert (answer is None) == (expected is None)
    if answer is not None:
        assert repr(answer) == repr(expected)
        assert [type(value) for value in answer.values()] == [type(value) for value in expected.values()]


def test_plain_values_of_the_declared_class_take_the_shortcut() -> None:
    rules = rules_of(Plain)
    committed = rules.at_birth(None)
    draft = {**committed, "number": 2, "money": Decimal("1.5"), "colour": Colour.BLUE}
    assert commit(rules, committed, draft) is draft


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), float("nan"), float("inf")], ids=str
)
@pytest.mark.parametrize("name", ["money", "share"])
def test_what_is_no_finite_number_does_not_validate(name: str, value: Any) -> None:
    rules = rules_of(Plain)
    committed = rules.at_birth(None)
    with pytest.raises(
        InvalidData, match=rf"data of Plain does not validate: {name}: .*(finite|valid) number"
    ):
        commit(rules, committed, {**committed, name: value})


def test_a_bool_in_a_field_for_an_int_becomes_one_as_pydantic_has_it() -> None:
    rules = rules_of(Plain)
    committed = rules.at_birth(None)
    after = commit(rules, committed, {**committed, "number": True})
    assert (after["number"], type(after["number"])) == (1, int)


class Simple(Base, initial=State.A):
    """Nothing but plain fields with defaults."""

    number: int = 7
    text: str = "x"
    money: Decimal = Decimal(1)
    colour: Colour = Colour.RED
    share: float = 0.5


@pytest.mark.many
@settings(max_examples=400, deadline=None, database=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([*Simple.model_fields, "unknown", "wr ong"]), VALUES, max_size=5))
def test_the_shortcut_at_birth_answers_as_pydantic_does(data: dict[str, Any]) -> None:
    rules = rules_of(Simple)
    before = repr(data)
    try:
        expected: Any = Simple.model_validate(dict(data)).__dict__
    except ValidationError:
        expected = None
    try:
        answer: Any = rules.at_commit_of_birth(rules.at_birth(data))
    except InvalidData:
        answer = None
    assert repr(data) == before
    assert (answer is None) == (expected is None)
    if answer is not None:
        assert repr(answer) == repr(expected)  # in the same order too
        assert [type(value) for value in answer.values()] == [type(value) for value in expected.values()]
        assert answer is not data


def test_a_default_that_does_not_validate_matters_only_where_it_is_used() -> None:
    class Wrong(Base, initial=State.A):
        number: int = "none"  # type: ignore[assignment]
        text: str = ""

    rules = rules_of(Wrong)
    with pytest.raises(InvalidData, match="number"):
        rules.at_birth({"text": "a"})
    assert rules.at_birth({"number": 3}) == {"number": 3, "text": ""}


# -- birth ----------------------------------------------------------------------------------------------------------


def test_newborns_share_defaults_but_not_what_a_factory_makes() -> None:
    numbers = itertools.count(1)

    class Numbered(Base, initial=State.A):
        number: int = Field(default_factory=lambda: next(numbers))

    shared, made = rules_of(Plain), rules_of(Numbered)
    assert shared.at_birth(None) is shared.at_birth({})
    assert [made.at_birth(None)["number"], made.at_birth(None)["number"]] == [1, 2]


def test_what_is_given_at_birth_is_validated_by_field_name_and_never_kept() -> None:
    class Order(Base, initial=State.A):
        lines: list[int]
        paid: int = Field(default=0, alias="payed")

    rules = rules_of(Order)
    given = {"lines": ["1", 2], "paid": "3"}
    born = rules.at_birth(given)
    assert born == {"lines": [1, 2], "paid": 3}
    given["lines"].append(4)  # type: ignore[attr-defined]
    assert born["lines"] == [1, 2]
    for wrong, said in (
        ({}, "lines: Field required"),
        ({"lines": 3}, "lines: Input should be a valid list"),
        ({"lines": [], "payed": 1}, "Extra inputs are not permitted"),
        ({"lines": [], "secret-word": 1}, r"\*: Extra inputs are not permitted"),
    ):
        with pytest.raises(InvalidData, match=said) as caught:
            rules.at_birth(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.rule("C3")
def test_before_an_event_gives_birth_the_defaults_are_known_and_the_rest_is_not() -> None:
    class Order(Base, initial=State.A):
        customer: str
        lines: list[int] = Field(default_factory=list)
        count: int = Field(default_factory=lambda known: len(known["lines"]))

    rules = rules_of(Order)
    first, second = rules.before_birth(), rules.before_birth()
    assert first == {"lines": [], "count": 0}
    assert first["lines"] is not second["lines"]
    with pytest.raises(InvalidData, match="customer: Field required"):
        rules.validated(first, set())
    assert commit(rules, first, {**first, "customer": "c"}) == {"customer": "c", "lines": [], "count": 0}


@pytest.mark.rule("C3")
def test_defaults_are_validated_when_an_event_gives_birth_too() -> None:
    class Order(Base, initial=State.A):
        paid: Decimal = "1.50"  # type: ignore[assignment]

    rules = rules_of(Order)
    assert rules.before_birth() == {"paid": Decimal("1.50")} == rules.at_birth(None)


def test_a_default_or_a_validator_that_raises_is_data_that_does_not_validate() -> None:
    def broken() -> int:
        raise LookupError("secret")

    class Order(Base, initial=State.A):
        customer: str
        count: int = Field(default_factory=broken)

        @field_validator("customer")
        @classmethod
        def look(cls, value: str) -> str:
            return {"a": "A"}[value]

    rules = rules_of(Order)
    for act in (rules.before_birth, lambda: rules.at_birth({"customer": "x", "count": 1})):
        with pytest.raises(InvalidData, match=r"raised (Lookup|Key)Error") as caught:
            act()
        assert isinstance(caught.value.__cause__, LookupError)
        assert "secret" not in str(caught.value)


# -- commit ---------------------------------------------------------------------------------------------------------


class Line(BaseModel):
    model_config = ConfigDict(extra="allow")

    sku: str = Field(alias="code")
    count: int = Field(default=1, gt=0)
    _seen: list[int] = []

    @model_validator(mode="after")
    def no_zero(self) -> Line:
        if self.sku == "zero":
            raise ValueError("there is no zero")
        return self


class Numbers(RootModel[list[int]]): ...


class Pair(NamedTuple):
    left: Line
    right: int


@dataclass
class Box:
    width: int
    inner: list[Line] = field(default_factory=list)
    made: int = field(init=False, default=7)
    late: int = field(init=False)


@dataclass
class Seeded:
    width: int
    seed: InitVar[int]

    def __post_init__(self, seed: int) -> None:
        self.width += seed


class Strange:
    """Nothing that pydantic knows."""


@dataclass
class Odd:
    thing: Strange


def line(sku: str = "x", **more: Any) -> Line:
    return Line.model_validate({"code": sku, **more})


class Deep(Base, initial=State.A):
    lines: list[Line] = []
    named: dict[str, Line] = {}
    pair: tuple[Line, ...] = ()
    both: Pair | None = None
    numbers: Numbers = Numbers([1])
    box: Box | None = None
    seeded: Seeded | None = None
    ordered: OrderedDict[str, Line] = OrderedDict()
    queue: deque[Line] = deque()
    odd: Any = None
    keys: set[int] = set()


RULES = rules_of(Deep)


def spoil_line(value: Line) -> None:
    value.count = -1


SPOILED: dict[str, Any] = {
    "lines": [line(), line()],
    "named": {"a": line()},
    "pair": (line(),),
    "both": Pair(line(), 1),
    "ordered": OrderedDict(a=line()),
    "queue": deque([line()]),
    "odd": [{"deep": (line(),)}],
}


def the_line(value: Any) -> Line:
    while not isinstance(value, Line):
        value = next(iter(value.values() if isinstance(value, dict) else value))
    return value


@pytest.mark.parametrize("name", SPOILED)
def test_a_model_that_was_changed_until_it_does_not_validate_fails_the_commit(name: str) -> None:
    committed = RULES.at_birth(None)
    value = SPOILED[name]
    the_line(value).count = 2
    after = commit(RULES, committed, {**committed, name: value})
    assert the_line(after[name]) is not the_line(value)
    assert type(after[name]) is type(value)
    the_line(value).count = -1
    with pytest.raises(InvalidData, match="count: Input should be greater than 0"):
        commit(RULES, committed, {**committed, name: value})


def test_other_things_that_were_changed_until_they_do_not_validate_fail_the_commit() -> None:
    committed = RULES.at_birth(None)
    box, inner = Box(1), Box(1, [line()])
    box.width = "wide"  # type: ignore[assignment]
    inner.inner[0].count = -1
    numbers = Numbers([1])
    numbers.root.append("x")  # type: ignore[arg-type]
    for change in ({"box": box}, {"box": inner}, {"numbers": numbers}, {"keys": {"a"}}):
        with pytest.raises(InvalidData):
            commit(RULES, committed, {**committed, **change})


def test_what_validates_keeps_all_that_it_had() -> None:
    committed = RULES.at_birth(None)
    given = line("y", colour="red")
    given._seen.append(3)
    box = Box(1)
    box.made = 9
    seeded = Seeded(1, 5)
    odd = Odd(Strange())
    after = commit(
        RULES,
        committed,
        {**committed, "lines": [given], "box": box, "seeded": seeded, "odd": odd, "numbers": Numbers([2])},
    )
    kept = after["lines"][0]
    assert (kept.sku, kept.model_extra, kept._seen) == ("y", {"colour": "red"}, [3])
    assert kept.model_fields_set == {"sku", "colour"}
    assert kept._seen is not given._seen
    assert (after["box"].width, after["box"].made, hasattr(after["box"], "late")) == (1, 9, False)
    assert after["box"] is not box
    assert after["seeded"].width == 6
    assert after["seeded"] is not seeded
    assert isinstance(after["odd"].thing, Strange)
    assert after["odd"].thing is not odd.thing
    assert after["numbers"].root == [2]


def test_a_validator_of_a_model_inside_says_why_in_its_own_words_but_not_the_value() -> None:
    committed = RULES.at_birth(None)
    spoiled = line("x")
    spoiled.sku = "zero"
    with pytest.raises(InvalidData, match="does not validate") as caught:
        commit(RULES, committed, {**committed, "lines": [spoiled]})
    assert "there is no" not in str(caught.value)  # because it says "zero", which is the value


def test_validators_and_constraints_of_the_machine_hold_at_every_commit() -> None:
    class Order(Base, initial=State.A):
        paid: int = 0
        total: int = 10
        name: str = ""

        @field_validator("name")
        @classmethod
        def no_digits(cls, value: str) -> str:
            if value == "7":
                raise ValueError("a name has no digits")
            return value.strip()

        @model_validator(mode="after")
        def enough(self) -> Order:
            if self.paid > self.total:
                raise ValueError("too much was paid")
            return self

    rules = rules_of(Order)
    committed = rules.at_birth(None)
    assert commit(rules, committed, {**committed, "name": " a "})["name"] == "a"
    for change, said in (
        ({"paid": 11}, "the value: Value error, too much was paid"),
        ({"name": "7"}, "name: .*digits"),
    ):
        with pytest.raises(InvalidData, match=said):
            commit(rules, committed, {**committed, **change})


def test_what_runs_after_each_validation_runs_at_every_commit() -> None:
    class Order(Base, initial=State.A):
        n: int = 0

        def model_post_init(self, context: Any, /) -> None:
            seen.append(self.n)

    class Strict(Base, initial=State.A):
        model_config = ConfigDict(str_strip_whitespace=True)
        text: str = ""

    seen: list[int] = []
    rules = rules_of(Order)
    committed = rules.at_birth(None)
    commit(rules, committed, {"n": 5})
    assert seen == [0, 5]
    strict = rules_of(Strict)
    assert commit(strict, strict.at_birth(None), {"text": " a "}) == {"text": "a"}


def test_a_machine_may_make_its_own_schema() -> None:
    class Order(Base, initial=State.A):
        n: int = 0

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return handler(source)

    rules = rules_of(Order)
    draft = {"n": 5}
    after = commit(rules, rules.at_birth(None), draft)
    assert after == draft
    assert after is not draft


def test_old_style_validators_of_a_field_are_kept_too() -> None:
    from pydantic import PydanticDeprecatedSince20, validator

    with pytest.warns(PydanticDeprecatedSince20):

        class Order(Base, initial=State.A):
            n: int = 0

            @validator("n")  # type: ignore[deprecated]
            @classmethod
            def double(cls, value: int) -> int:
                return value * 2

    rules = rules_of(Order)
    assert commit(rules, rules.at_birth(None), {"n": 5}) == {"n": 10}


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_old_style_validators_are_kept_too() -> None:
    from pydantic import root_validator

    class Order(Base, initial=State.A):
        n: int = 0

        @root_validator(skip_on_failure=True)  # type: ignore[deprecated]
        @classmethod
        def double(cls, values: dict[str, Any]) -> dict[str, Any]:
            return {"n": values["n"] * 2}

    rules = rules_of(Order)
    assert commit(rules, rules.at_birth(None), {"n": 5}) == {"n": 10}


class Early(Base, initial=State.A):
    n: int = 0
    later: list[Later] = []


class Later(BaseModel):
    count: int = Field(default=1, gt=0)


def test_a_field_whose_class_is_defined_later_is_known_when_the_system_is_made() -> None:
    rules = rules_of(Early)
    committed = rules.at_birth({"later": [{"count": 2}]})
    assert committed["later"][0].count == 2
    spoiled = Later()
    spoiled.count = -1
    with pytest.raises(InvalidData, match="greater than 0"):
        commit(rules, committed, {**committed, "later": [spoiled]})


@pytest.mark.rule("C33")
def test_a_field_whose_class_never_comes_is_a_wrong_definition() -> None:
    class Order(Base, initial=State.A):
        n: Nowhere = 0  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(
        DefinitionError, match="Order: the class 'Nowhere' of a data field is not known; import it"
    ):
        rules_of(Order)


# -- snapshots ------------------------------------------------------------------------------------------------------


@pytest.mark.rule("C10")
def test_a_copy_for_whoever_looks_shares_nothing_that_could_be_changed() -> None:
    committed = RULES.at_birth({"lines": [line()], "named": {"a": line()}})
    copy = RULES.copy(committed)
    assert copy == committed
    copy["lines"][0].count = 5
    copy["named"].clear()
    assert (committed["lines"][0].count, list(committed["named"])) == (1, ["a"])
    plain = rules_of(Plain).at_birth(None)
    assert rules_of(Plain).copy(plain) is not plain
