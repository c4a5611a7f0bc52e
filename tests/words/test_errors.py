"""Errors: one small tree, each with the machine and the event."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import actorfsm
from actorfsm import ActorFSMError, AskCycle, Event, HookFailed, Unhandled, Veto, Vetoed, errors

PUBLIC = {name: getattr(errors, name) for name in errors.__all__}
EXTRA: dict[str, dict[str, Any]] = {
    "Unhandled": {"state": 1, "allowed": ["Pay"]},
    "Vetoed": {"by": "charge", "reason": "no"},
    "HookFailed": {"hook": "charge"},
    "AskCycle": {"path": ["a", "b", "a"]},
    "JournalCorrupt": {"seq": 7},
}


class Pay(Event): ...


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "Veto"])
def test_every_error_carries_the_machine_and_the_event_and_not_the_event_in_its_text(name: str) -> None:
    event = Pay()
    error = PUBLIC[name]("what happened", machine_id="order-1", event=event, **EXTRA.get(name, {}))
    assert isinstance(error, ActorFSMError)
    assert (error.machine_id, error.event, str(error)) == ("order-1", event, "what happened")


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_public_and_says_in_its_docstring_what_it_means(name: str) -> None:
    assert getattr(actorfsm, name) is PUBLIC[name]
    assert name in actorfsm.__all__
    assert len(inspect.getdoc(PUBLIC[name]) or "") > 30


def test_errors_with_more_to_tell_tell_it() -> None:
    unhandled = Unhandled("u", state="A", allowed=["Pay"], guards=["rich"])
    assert (unhandled.state, unhandled.allowed, unhandled.guards) == ("A", ("Pay",), ("rich",))
    vetoed = Vetoed("v", by="charge", reason="declined")
    assert (vetoed.by, vetoed.reason) == ("charge", "declined")
    assert HookFailed("h", hook="charge").hook == "charge"
    assert AskCycle("c", path=["a", "a"]).path == ("a", "a")


def test_a_veto_is_no_error_of_the_package_but_a_word_for_hooks() -> None:
    veto = Veto("declined")
    assert (veto.reason, str(veto), veto.by) == ("declined", "declined", "guard")
    assert Veto().reason == ""
    assert not isinstance(veto, ActorFSMError)
