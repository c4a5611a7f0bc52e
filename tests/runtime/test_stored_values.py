"""C28: values as the journal keeps them: what is no value of the class, and never could have been, is refused too."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from actorfsm import (
    Event,
    Fields,
    InvalidData,
    Machine,
    SchemaMismatch,
    TransitionRequested,
    transition,
    upcast,
)
from actorfsm.journal.codec import fingerprint_of
from actorfsm.journal.entry import Answer, Payload, Recorded
from actorfsm.journal.image import Image
from actorfsm.runtime.stored_json import check_comes_back, dumped
from actorfsm.runtime.stored_outcomes import StoredOutcomes
from actorfsm.runtime.stored_values import StoredValues, event_payload
from tests.contract import shop_v1, shop_v2

pytestmark = pytest.mark.rule("C28")


class Bill(BaseModel):
    model_config = ConfigDict(frozen=True)
    schema_version: ClassVar[int] = 2

    total: int


class Ask(Event[Annotated[Bill | int | list[int] | None, "a reply of many kinds"]]):
    schema_version: ClassVar[int] = 2

    text: str


class Plain(Event[list[int]]):
    pass


class Shop(Machine[shop_v1.P, Any], initial=shop_v1.P.PACKED, final=(shop_v1.P.SENT,)):
    @transition(shop_v1.P.PACKED, to=shop_v1.P.SENT)
    async def asked(self, event: Ask) -> Any: ...

    @transition(shop_v1.P.PACKED, to=shop_v1.P.SENT)
    async def plain(self, event: Plain) -> Any: ...


ANSWER: list[Any] = [None]


@upcast(Ask, from_version=1)
def whatever(fields: Fields) -> Fields:
    answer: Fields = ANSWER[0]
    return answer


@upcast(Bill, from_version=1)
def the_total(fields: Fields) -> Fields:
    return {"total": fields["sum"]}


@pytest.mark.parametrize("stored", ["[1]", "1", "no json"])
def test_what_is_stored_as_no_object_is_not_given_to_an_upcast(stored: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"here: Ask version 1 is stored as no object of fields"):
        StoredValues(Shop, StoredOutcomes()).event(Payload("Ask", 1, stored), "here")


@pytest.mark.parametrize("stored", ["[1]", "no json"])
def test_what_is_stored_as_no_object_does_not_validate(stored: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"here: Ask version 2 does not validate: the value: "):
        StoredValues(Shop, StoredOutcomes()).event(Payload("Ask", 2, stored), "here")


def test_an_upcast_of_an_event_returns_fields() -> None:
    values = StoredValues(Shop, StoredOutcomes())
    for ANSWER[0] in (None, [("text", "x")], "text"):
        with pytest.raises(SchemaMismatch, match=r"the upcast whatever returned no dict of fields"):
            values.event(Payload("Ask", 1, "{}"), "here")
    ANSWER[0] = {"text": "x"}
    assert values.event(Payload("Ask", 1, "{}"), "here") == Ask(text="x")


def test_each_kind_of_reply_is_read_as_what_it_was() -> None:
    replies = StoredValues(Shop, StoredOutcomes()).replies
    for reply in (Bill(total=1), 7, [1, 2], None):
        payload = replies.payload(Ask, reply)
        assert replies.reply(Ask, payload, "here") == reply
    assert replies.reply(Ask, Payload("Bill", 1, '{"sum":3}'), "here") == Bill(total=3)
    with pytest.raises(
        SchemaMismatch, match=r"here, the reply to Ask: Bill version 3 cannot be read: .* newer code"
    ):
        replies.reply(Ask, Payload("Bill", 3, '{"total":3}'), "here")
    with pytest.raises(SchemaMismatch, match=r"list version 2 cannot be read: no class here has versions"):
        replies.reply(Plain, Payload("list", 2, "[1]"), "here")


def test_a_machine_without_data_or_with_two_states_is_no_machine() -> None:
    values = StoredValues(Shop, StoredOutcomes())
    with pytest.raises(SchemaMismatch, match=r"o as entry 3 leaves it has no data"):
        values.machine(Image(machine_id="o", seq=3, state=("PACKED",)))
    with pytest.raises(SchemaMismatch, match=r"Shop has no state PACKED, SENT, which is stored"):
        values.machine(Image(machine_id="o", seq=3, state=("PACKED", "SENT"), data=Payload("Shop", 1, "{}")))


def test_a_request_for_a_state_is_stored_by_its_name_and_read_under_that_of_today() -> None:
    payload = event_payload(TransitionRequested(to=shop_v1.P.PACKED), StoredOutcomes())
    assert payload == Payload("TransitionRequested", 1, '{"to":"PACKED"}')
    assert StoredValues(shop_v2.Parcel, StoredOutcomes()).event(payload, "here") == TransitionRequested(
        to=shop_v2.P.WRAPPED
    )


def test_what_cannot_be_written_as_json_is_not_stored() -> None:
    def dump() -> bytes:
        return b"\xff"

    with pytest.raises(InvalidData, match="it cannot be stored: UnicodeDecodeError"):
        dumped("it", dump)


def test_the_names_of_events_are_those_of_today_and_of_the_past() -> None:
    classes = StoredValues(shop_v2.PurchaseOrder, StoredOutcomes()).event_classes()
    assert classes["Note"] is classes["Remark"] is shop_v2.Remark


def test_of_a_trimmed_event_the_hash_decides_in_its_own_version_and_the_class_across_versions() -> None:
    values, event = StoredValues(Shop, StoredOutcomes()), Ask(text="x")
    stored = event_payload(event, StoredOutcomes())

    def recorded(name: str, version: int) -> Recorded:
        return Recorded(1, name, None, fingerprint_of(stored), Answer(kind="committed"), version)

    assert values.is_recorded(event, recorded("Ask", 2), "here")
    assert not values.is_recorded(Ask(text="y"), recorded("Ask", 2), "here")
    assert values.is_recorded(Ask(text="y"), recorded("Ask", 1), "here")
    assert not values.is_recorded(event, recorded("Plain", 1), "here")
    assert not values.is_recorded(event, recorded("Gone", 1), "here")


def test_what_could_not_be_read_again_is_not_stored() -> None:
    with pytest.raises(InvalidData, match="it cannot be stored, because it could not be read again"):
        check_comes_back("it", Ask(text="x"), lambda: Ask.model_validate_json("{}"))


def test_an_outcome_that_newer_code_has_stored_is_not_guessed_at() -> None:
    with pytest.raises(SchemaMismatch, match="here: Outcome version 2 was stored by newer code"):
        StoredOutcomes().outcome(Payload("Outcome", 2, "{}"), "here")
