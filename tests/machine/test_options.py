"""What a machine class may choose: the documented defaults, and where the figures that are refused begin."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from enum import Enum, auto
from math import inf, nan
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Directive,
    Event,
    Machine,
    MailboxPolicy,
    Overflow,
    Redelivery,
    RestartPolicy,
    transition,
)
from actorfsm.errors import DefinitionError
from actorfsm.machine.machine import definition_of
from actorfsm.machine.options import MachineOptions


class State(Enum):
    ON = auto()


class Look(Event):
    pass


def machine_with(**options: Any) -> MachineOptions:
    class Lamp(Machine[State], initial=State.ON, **options):
        @transition(State.ON, to=STAY)
        def look(self, event: Look) -> None: ...

    return definition_of(Lamp).options


@pytest.mark.rule("C33")
def test_the_defaults_are_those_of_the_documentation() -> None:
    options = machine_with()
    assert options == MachineOptions(
        on_failure={},
        redelivery=Redelivery(attempts=0, first_delay_s=0.1, max_delay_s=5.0),
        mailbox=MailboxPolicy(capacity=1024, overflow=Overflow.REFUSE, waiting=1024, wait_timeout_s=30.0),
        restart=RestartPolicy(
            max_restarts=3,
            within_s=5.0,
            first_delay_s=0.1,
            max_delay_s=30.0,
            jitter=0.2,
            stable_after_s=60.0,
        ),
        postpone_limit=1024,
        own_event_limit=100,
        remembered_ids=128,
        hook_timeout_s=30.0,
    )
    assert options.directive_for(ValueError()) is Directive.RESUME


def test_what_is_written_as_text_elsewhere_are_the_names_of_the_choices() -> None:
    assert [*Directive] == ["resume", "restart", "stop"]
    assert [*Overflow] == ["refuse", "wait", "drop_newest", "drop_oldest"]


def test_options_and_policies_do_not_change() -> None:
    options = machine_with()
    for value, name in (
        (options, "hook_timeout_s"),
        (options.mailbox, "capacity"),
        (options.restart, "jitter"),
        (options.redelivery, "attempts"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


@pytest.mark.parametrize(
    ("make", "figures"),
    [
        (MailboxPolicy, {"capacity": 1}),
        (MailboxPolicy, {"waiting": 0}),
        (MailboxPolicy, {"wait_timeout_s": 0.001}),
        (RestartPolicy, {"max_restarts": 0}),
        (RestartPolicy, {"within_s": 0.001}),
        (RestartPolicy, {"jitter": 0}),
        (RestartPolicy, {"jitter": 0.999}),
        (RestartPolicy, {"first_delay_s": 0}),
        (RestartPolicy, {"first_delay_s": 0, "max_delay_s": 0}),
        (RestartPolicy, {"first_delay_s": 2, "max_delay_s": 2}),
        (RestartPolicy, {"stable_after_s": 0}),
        (Redelivery, {"attempts": 1}),
        (Redelivery, {"first_delay_s": 0}),
        (Redelivery, {"first_delay_s": 5}),
    ],
)
def test_a_policy_takes_the_figures_at_its_bounds(make: Any, figures: dict[str, float]) -> None:
    policy = make(**figures)
    assert {name: getattr(policy, name) for name in figures} == figures


@pytest.mark.parametrize(
    ("make", "figures"),
    [
        *((MailboxPolicy, {"capacity": figure}) for figure in (0, -1)),
        (MailboxPolicy, {"waiting": -1}),
        *((MailboxPolicy, {"wait_timeout_s": figure}) for figure in (0, -1, nan)),
        (RestartPolicy, {"max_restarts": -1}),
        *((RestartPolicy, {"within_s": figure}) for figure in (0, -1, nan)),
        *((RestartPolicy, {"jitter": figure}) for figure in (-0.001, 1, 2, nan)),
        *((RestartPolicy, {"first_delay_s": figure}) for figure in (-0.001, 30.001, nan)),
        (RestartPolicy, {"first_delay_s": 0, "max_delay_s": -0.001}),
        *((RestartPolicy, {"stable_after_s": figure}) for figure in (-0.001, nan)),
        (Redelivery, {"attempts": -1}),
        *((Redelivery, {"first_delay_s": figure}) for figure in (-0.001, 5.001, nan)),
    ],
)
def test_a_policy_refuses_the_figures_beyond_its_bounds_by_name(make: Any, figures: dict[str, float]) -> None:
    with pytest.raises(DefinitionError, match=rf"^{make.__name__}: .*{next(iter(figures))}"):
        make(**figures)


@pytest.mark.parametrize("name", ["postpone_limit", "own_event_limit", "remembered_ids"])
def test_a_limit_of_a_class_is_at_least_one(name: str) -> None:
    assert getattr(machine_with(**{name: 1}), name) == 1
    for figure in (0, -1):
        with pytest.raises(DefinitionError, match=rf"^Lamp: {name}={figure}; give a number above 0"):
            machine_with(**{name: figure})


def test_a_hook_timeout_is_a_time_above_zero_that_ends() -> None:
    assert machine_with(hook_timeout=0.001).hook_timeout_s == 0.001
    assert machine_with(hook_timeout=timedelta(minutes=1)).hook_timeout_s == 60.0
    for figure in (0, -1, inf, nan):
        with pytest.raises(DefinitionError, match=r"^Lamp: hook_timeout=.*above 0"):
            machine_with(hook_timeout=figure)


@pytest.mark.parametrize(
    ("make", "figures"),
    [
        *((MailboxPolicy, {"capacity": given}) for given in ("1", None, 1.5, True)),
        *((MailboxPolicy, {"wait_timeout_s": given}) for given in ("1", None, True, timedelta(seconds=1))),
        *((RestartPolicy, {"max_restarts": given}) for given in ("1", inf)),
        *((RestartPolicy, {"first_delay_s": given}) for given in ("1", None)),
        *((Redelivery, {"attempts": given}) for given in ("1", inf, True)),
    ],
)
def test_a_policy_refuses_what_is_no_number_by_name(make: Any, figures: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=rf"^{make.__name__}: .*{next(iter(figures))}"):
        make(**figures)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("on_failure", Directive.RESTART),
        ("redelivery", 3),
        ("mailbox", 100),
        ("restart", Redelivery()),
        ("postpone_limit", "7"),
        ("timer_attempts", 1.5),
        ("job_limit", True),
    ],
)
def test_an_option_of_another_kind_is_refused_by_name(name: str, given: Any) -> None:
    with pytest.raises(DefinitionError, match=rf"^Lamp: {name}=.*; give "):
        machine_with(**{name: given})
