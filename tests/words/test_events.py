"""Events: what gets in from JSON, what is said of what does not, and the reply that a class declares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeVar as NewTypeVar

from actorfsm import DefinitionError, Event, InvalidEvent, Outcome, Spawn, TransitionRequested
from actorfsm.event import MAX_PAYLOAD_BYTES, reply_annotation
from actorfsm.problems import without_input

if TYPE_CHECKING:

    class OnlyForCheckers: ...


T = TypeVar("T")
DefaultedT = NewTypeVar("DefaultedT", default=int)


class Receipt(BaseModel):
    number: str


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@dataclass
class Size:
    width: int


class Pay(Event[Receipt]):
    amount: Decimal = Decimal(0)
    share: float = 0.0
    text: str = ""
    lines: tuple[Cat, ...] = ()
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    key: UUID | None = None
    link: AnyUrl | None = None
    counts: dict[str, int] = {}
    size: Size | None = None
    anything: Any = None
    defaulted: dict[str, Any] = {"fields": {"schema": 1}}


SECRET = "hunter2"


@pytest.mark.rule("C10")
def test_an_event_is_read_from_its_fields_and_cannot_be_changed() -> None:
    event = Pay.from_json('{"amount": "9.90", "size": {"width": 3}}')
    assert (event.amount, event.size) == (Decimal("9.90"), Size(3))
    assert Pay.from_fields({"amount": 1}).amount == 1
    with pytest.raises(ValidationError, match="frozen"):
        event.amount = Decimal(1)


BAD: dict[str, tuple[str | bytes, str]] = {
    "an extra field": (f'{{"{SECRET}": 1}}', r"\*: Extra inputs are not permitted"),
    "NaN": ('{"share": NaN}', "share: Input should be a finite number"),
    "infinity": ('{"share": Infinity}', "share: Input should be a finite number"),
    "a Decimal that is none": ('{"amount": "NaN"}', "amount: Input should be a finite number"),
    "no JSON": (f"{SECRET}", "the value: Invalid JSON"),
    "not an object": ('"x"', "the value: Input should be an object"),
    "bad UTF-8": (b'{"text": "\xff"}', "Invalid JSON: invalid unicode"),
    "a lone surrogate escaped": ('{"text": "\\ud800"}', "Invalid JSON"),
    "a lone surrogate": ('{"text": "\ud800"}', "the value: "),
    "a bare NUL": ('{"text": "\x00"}', "Invalid JSON: control character"),
    "10,000 levels": ('{"anything": ' + "[" * 10_000 + "]" * 10_000 + "}", "recursion limit"),
    "300 kB": ('{"text": "' + "x" * 300_000 + '"}', "Pay of 300,012 bytes: the limit is 262,144"),
    "300 kB of bytes": (b'{"text": "' + b"x" * 300_000 + b'"}', "the limit is 262,144"),
    "200 kB of characters of two bytes": ('{"text": "' + "é" * 200_000 + '"}', "the limit is 262,144"),
    "a wrong number": (f'{{"amount": "{SECRET}"}}', "amount: Input should be a valid decimal"),
    "a wrong tag": (f'{{"pet": {{"kind": "{SECRET}"}}}}', "pet: union_tag_invalid"),
    "a wrong UUID": (f'{{"key": "{SECRET}"}}', "key: uuid_parsing"),
    "a wrong URL": (f'{{"link": "{SECRET}"}}', "link: url_parsing"),
    "a wrong value in a dict": (
        f'{{"counts": {{"{SECRET}": "x"}}}}',
        r"counts\.\*: Input should be a valid integer",
    ),
    "a wrong field of a model in a tuple": (
        '{"lines": [{"kind": "cow"}]}',
        r"lines\.0\.kind: Input should be 'cat'",
    ),
    "a wrong field of a dataclass": (
        '{"size": {"width": "x"}}',
        r"size\.width: Input should be a valid integer",
    ),
    "many problems": (
        '{"amount": "x", "share": "x", "text": 1, "key": 1, "counts": 1, "size": 1}',
        "amount: .*; counts: ",
    ),
}


@pytest.mark.rule("C10")
@pytest.mark.rule("C11")
@pytest.mark.parametrize("case", BAD)
def test_bad_json_is_an_invalid_event_that_does_not_repeat_it(case: str) -> None:
    text, said = BAD[case]
    with pytest.raises(InvalidEvent, match=said) as caught:
        Pay.from_json(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 600


@pytest.mark.rule("C10")
def test_what_json_can_say_is_kept_as_it_is_said() -> None:
    assert Pay.from_json('{"text": "a\\u0000b"}').text == "a\0b"
    assert Pay.from_json('{"text": "\\ud83d\\ude00"}').text == "\N{GRINNING FACE}"
    body = '{"text": "' + "x" * 100 + '"}'
    assert Pay.from_json(body, max_bytes=len(body)).text == "x" * 100
    with pytest.raises(InvalidEvent, match="the limit is 111"):
        Pay.from_json(body, max_bytes=len(body) - 1)
    assert MAX_PAYLOAD_BYTES == 262_144


@pytest.mark.rule("C10")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"amount": Decimal("NaN")}, "amount: Input should be a finite number"),
        ({"share": float("nan")}, "share: Input should be a finite number"),
        ({SECRET: 1}, r"\*: Extra inputs are not permitted"),
        ({"counts": 7}, "counts: Input should be a valid dictionary"),
        ("hunter2", "the value: Input should be a valid dictionary"),
    ],
)
def test_fields_that_do_not_validate_are_an_invalid_event(fields: Any, said: str) -> None:
    with pytest.raises(InvalidEvent, match=said) as caught:
        Pay.from_fields(fields)
    assert SECRET not in str(caught.value)


class Login(Event):
    user: str = ""
    friend: Cat | None = None
    password: str = ""
    more: list[dict[str, Any]] = []

    @field_validator("user")
    @classmethod
    def check_user(cls, value: str) -> str:
        if value == "nobody":
            raise ValueError("give a name")
        if value.startswith("int:"):
            int(value[4:])
        if value == "custom":
            raise PydanticCustomError("odd_user", "this user is odd")
        return value

    @field_validator("friend")
    @classmethod
    def check_friend(cls, value: Cat | None) -> Cat | None:
        if value is not None:
            raise ValueError(f"a {value.kind} has no account")
        return value

    @model_validator(mode="after")
    def check_all(self) -> Login:
        if self.password == SECRET or self.more:
            raise ValueError(f"the password {SECRET} is known")
        return self


@pytest.mark.rule("C10")
def test_the_words_of_a_validator_are_kept_unless_they_repeat_the_input() -> None:
    for fields, said in (
        ({"user": "nobody"}, "user: Value error, give a name"),
        ({"user": "int:x1"}, "user: Value error, invalid literal for int"),
        ({"user": "custom"}, "user: this user is odd"),
        ({"friend": Cat(kind="cat")}, "friend: value_error"),
        ({"password": SECRET}, "the value: value_error"),
        ({"more": [{"a": ("", SECRET)}]}, "the value: value_error"),
    ):
        with pytest.raises(InvalidEvent) as caught:
            Login.from_fields(fields)
        assert said in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.rule("C10")
def test_a_validation_error_of_anybody_is_told_without_its_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Pay.model_validate({SECRET: 1, "lines": [Cat(kind="cat"), 3]})
    text = without_input(caught.value)
    assert text.startswith("2 problems with Pay: *.1: ")
    assert SECRET not in text


# -- replies --------------------------------------------------------------------------------------------------------


class Batch(Event[None], Generic[T]):
    items: list[T]


class Ask(Event[T], Generic[T]):
    question: str = ""


class Both(Event[DefaultedT], Generic[T, DefaultedT]): ...


class ForOrder(Event[Receipt, "Order"]): ...


class Later(Event["Afterwards | None"]): ...


class Inside(Event["list[Afterwards]"]): ...


class Further(Pay):
    tip: int = 0


class Afterwards(BaseModel): ...


@pytest.mark.rule("C33")
@pytest.mark.parametrize(
    ("event_class", "reply"),
    [
        (Event, None),
        (Spawn, None),
        (TransitionRequested, None),
        (Outcome, None),
        (Pay, Receipt),
        (Further, Receipt),
        (ForOrder, Receipt),
        (Later, Afterwards | None),
        (Inside, list[Afterwards]),
        (Batch, None),
        (Batch[int], None),
        (Ask, Any),
        (Ask[int], int),
        (Ask[None], None),
        (Both[int, str], str),
    ],
    ids=repr,
)
def test_the_reply_is_what_the_nearest_class_declares(event_class: type[Event[Any]], reply: Any) -> None:
    assert reply_annotation(event_class) == reply


@pytest.mark.rule("C33")
def test_a_subclass_of_a_parametrised_event_keeps_its_reply_and_may_declare_another() -> None:
    class AskNumber(Ask[int]): ...

    class AskTwice(AskNumber): ...

    class AskText(AskNumber, Event[str]): ...  # type: ignore[misc]

    assert [reply_annotation(cls) for cls in (AskNumber, AskTwice, AskText)] == [int, int, str]
    assert AskTwice(question="?").question == "?"


@pytest.mark.rule("C33")
def test_a_forward_reference_finds_local_names_if_they_are_given() -> None:
    class Local(BaseModel): ...

    class AskLocal(Event["Local"]): ...

    assert reply_annotation(AskLocal, {"Local": Local}) is Local


@pytest.mark.rule("C33")
@pytest.mark.parametrize("annotation", ["OnlyForCheckers", "Receipt |", "Receipt.nothing"])
def test_a_reply_that_cannot_be_resolved_is_a_wrong_definition(annotation: str) -> None:
    class Lost(Event[annotation]): ...  # type: ignore[valid-type]

    with pytest.raises(
        DefinitionError, match=r"Lost: its reply .* cannot be resolved .*not under TYPE_CHECKING"
    ):
        reply_annotation(Lost)


@pytest.mark.rule("C10")
def test_a_generic_event_of_the_users_validates_its_parameter() -> None:
    assert Batch[int](items=[1]).items == [1]
    assert Batch[int].from_json('{"items": [1]}') == Batch[int](items=[1])
    with pytest.raises(InvalidEvent, match=r"items\.0: Input should be a valid integer"):
        Batch[int].from_fields({"items": ["x"]})
    assert Batch[int] is Batch[int]


@pytest.mark.rule("C10")
def test_an_outcome_and_a_request_are_plain_data_as_json() -> None:
    from enum import StrEnum

    class State(StrEnum):
        A = "a"

    outcome = Outcome(
        kind="committed", success=True, machine_id="m", event_type="Pay", event_id="e", old=None, new=State.A
    )
    assert json.loads(outcome.model_dump_json())["new"] == "A"
    assert json.loads(TransitionRequested(to=State.A).model_dump_json()) == {"to": "A"}
    with pytest.raises(InvalidEvent, match="to: Input should be an instance of Enum"):
        TransitionRequested.from_fields({"to": "a"})
