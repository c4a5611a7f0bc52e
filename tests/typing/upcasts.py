"""Upcasts as type checkers see them. Nothing here runs: mypy and pyright read it."""

from typing import Any, assert_type

from actorfsm import Fields, upcast
from tests.typing.first_screen import Order, Pay, Receipt


@upcast(Pay, from_version=1)
def pay(fields: Fields) -> Fields:
    return {**fields, "currency": "EUR"}


@upcast(Receipt, from_version=1, named="Bill")
def receipt(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


@upcast(Order, from_version=1, states={"PAID": "PAYING"}, timeouts={"late": None})
def order(state: str, fields: Fields) -> tuple[str, Fields]:
    return state, fields


assert_type(pay({}), Fields)
assert_type(order("PAID", {}), tuple[str, Fields])


@upcast(Pay, from_version=1)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def pay_has_no_state(state: str, fields: Fields) -> tuple[str, Fields]:
    return state, fields


@upcast(Order, from_version=1)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def order_has_a_state(fields: Fields) -> Fields:
    return fields
