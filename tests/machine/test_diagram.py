"""Pictures of machines: what they show is what the definition says, in its order, and no name breaks them."""

from __future__ import annotations

import dataclasses
import pickle
import re
from datetime import timedelta
from enum import Enum, StrEnum, auto
from typing import Any
from xml.etree import ElementTree

import pytest

from actorfsm import STAY, DefinitionError, Event, Machine, StateTimeout, on_timeout, postpone, transition
from actorfsm.clock import in_words
from actorfsm.integrations.pictures import Picture
from actorfsm.machine.definition import Transition
from actorfsm.machine.diagram import ReactionKind, diagram_of
from actorfsm.machine.machine import definition_of
from actorfsm.machine.snapshot import Snapshot
from examples.orders.order import Order
from tests.campaigns.p2_machines import CLASSES

SPECS = ("mermaid", "dot", "table")


class Status(StrEnum):
    OPEN = auto()
    ASSIGNED = auto()
    CLOSED = auto()


class Assign(Event):
    pass


class Work(Event):
    pass


class Close(Event):
    pass


class Import(Event):
    pass


def is_paid(machine: Any, event: Event) -> bool:
    return True


class Ticket(Machine[Status], initial=Status.OPEN, final=(Status.CLOSED,)):
    @transition(to=Status.ASSIGNED)
    def bring(self, event: Import) -> None: ...

    @transition(Status.OPEN, Status.ASSIGNED, to=Status.ASSIGNED)
    def assign(self, event: Assign) -> None: ...

    @postpone(Status.OPEN)
    @transition(Status.ASSIGNED, to=STAY)
    def work(self, event: Work) -> None: ...

    @transition(Status.OPEN, Status.ASSIGNED, to=Status.CLOSED, when=is_paid)
    def close(self, event: Close) -> None: ...

    @transition(Status.ASSIGNED, to=Status.CLOSED, when=is_paid)
    def close_imported(self, event: Import) -> None: ...

    @transition(Status.ASSIGNED, to=STAY)
    def keep(self, event: Import) -> None: ...


class Lamp(Machine[Status], initial=Status.OPEN, final=(Status.CLOSED,)):
    """No transitions: from any state to any other."""


def drawn(machine_class: type[Machine[Any, Any]]) -> Any:
    return diagram_of(definition_of(machine_class))


# -- the three pictures -----------------------------------------------------------------------------------------------


def test_mermaid_shows_births_guards_what_stays_what_is_postponed_and_the_end() -> None:
    assert format(Ticket, "mermaid").splitlines() == [
        "stateDiagram-v2",
        '    state "OPEN" as OPEN',
        "    OPEN : Work / postpone",
        '    state "ASSIGNED" as ASSIGNED',
        "    ASSIGNED : Work / stay",
        "    ASSIGNED : Import / stay",
        '    state "CLOSED" as CLOSED',
        "    [*] --> ASSIGNED : Import",
        "    [*] --> OPEN : Spawn",
        "    OPEN --> ASSIGNED : Assign",
        "    OPEN --> CLOSED : Close [is_paid]",
        "    ASSIGNED --> ASSIGNED : Assign",
        "    ASSIGNED --> CLOSED : Close [is_paid], Import [is_paid]",
        "    CLOSED --> [*]",
    ]


def test_dot_shows_the_same() -> None:
    lines = [line.strip() for line in format(Ticket, "dot").splitlines()]
    assert lines[0] == 'digraph "Ticket" {'
    assert 'label="Ticket";' in lines
    nodes = {line.split()[0]: shown_in(line) for line in lines if line.startswith('"') and "->" not in line}
    assert nodes == {
        '"start"': "",
        '"end"': "",
        '"OPEN"': "OPEN|Work / postpone",
        '"ASSIGNED"': "ASSIGNED|Work / stay|Import / stay",
        '"CLOSED"': "CLOSED",
    }
    assert [(line.split(" [")[0], shown_in(line)) for line in lines if "->" in line] == [
        ('"start" -> "ASSIGNED"', "Import"),
        ('"start" -> "OPEN"', "Spawn"),
        ('"OPEN" -> "ASSIGNED"', "Assign"),
        ('"OPEN" -> "CLOSED"', "Close [is_paid]"),
        ('"ASSIGNED" -> "ASSIGNED"', "Assign"),
        ('"ASSIGNED" -> "CLOSED"', "Close [is_paid]|Import [is_paid]"),
        ('"CLOSED" -> "end";', ""),
    ]


def shown_in(line: str) -> str:
    """What the label of a line of DOT says, line by line."""
    label = re.search(r"label=<(.*)>", line)
    return "" if label is None else "|".join(filter(str.strip, re.split(r"<[^>]*>", label[1])))


def test_the_table_shows_the_same_in_the_order_in_which_choices_are_tried() -> None:
    assert format(Ticket, "table").splitlines() == [
        "| state          | event  | leads to         |",
        "| -------------- | ------ | ---------------- |",
        "| (start)        | Import | ASSIGNED         |",
        "| (start)        | Spawn  | OPEN             |",
        "| OPEN           | Assign | ASSIGNED         |",
        "| OPEN           | Close  | CLOSED [is_paid] |",
        "| OPEN           | Work   | (postpone)       |",
        "| ASSIGNED       | Assign | ASSIGNED         |",
        "| ASSIGNED       | Work   | (stay)           |",
        "| ASSIGNED       | Close  | CLOSED [is_paid] |",
        "| ASSIGNED       | Import | CLOSED [is_paid] |",
        "| ASSIGNED       | Import | (stay)           |",
        "| CLOSED (final) |        |                  |",
    ]


def test_a_machine_without_transitions_has_one_arrow_for_each_state_not_one_for_each_pair() -> None:
    assert format(Lamp, "mermaid").splitlines()[4:] == [
        "    [*] --> OPEN : Spawn",
        '    state "any state" as any_state',
        "    any_state --> OPEN : TransitionRequested",
        "    any_state --> ASSIGNED : TransitionRequested",
        "    any_state --> CLOSED : TransitionRequested",
        "    CLOSED --> [*]",
    ]
    assert format(Lamp, "dot").count("->") == 5
    assert '"end"' not in format(WideNames, "dot")
    assert "| (any)          | TransitionRequested | (any)    |" in format(Lamp, "table").splitlines()


@pytest.mark.parametrize("machine_class", [*CLASSES, Order, Ticket], ids=lambda cls: cls.__name__)
def test_every_choice_of_the_definition_is_in_the_picture_and_nothing_else(machine_class: Any) -> None:
    definition = definition_of(machine_class)
    wanted = [
        (
            None if node.parent is None else node.name,
            "after" if event is StateTimeout else event.__name__,  # the times have a test of their own
            choice.guard_name,
            choice.target.name if isinstance(choice, Transition) else None,
            choice.stays if isinstance(choice, Transition) else None,
        )
        for node in (definition.root, *definition.states.values())
        for event, choices in node.choices.items()
        for choice in choices
    ]
    shown = drawn(machine_class).reactions
    stays = {ReactionKind.GO: False, ReactionKind.STAY: True, ReactionKind.POSTPONE: None}
    seen = [(r, "after" if r.event.startswith("after ") else r.event) for r in shown]
    assert [(r.source, event, r.guard, r.target, stays[r.kind]) for r, event in seen] == wanted
    labels = [label for arrow in drawn(machine_class).arrows for label in arrow.labels]
    inside = [text for state in drawn(machine_class).states for text in state.inside]
    assert len(labels) + len(inside) == len(wanted)


@pytest.mark.parametrize("spec", SPECS)
def test_a_picture_is_the_same_each_time_and_does_not_end_its_last_line(spec: str) -> None:
    assert format(Order, spec) == f"{Order:{spec}}"
    assert not format(Order, spec).endswith("\n")


class Ready(Machine[Status], initial=Status.OPEN, final=(Status.CLOSED,)):
    @on_timeout(Status.OPEN, after=timedelta(hours=1, minutes=30), to=Status.ASSIGNED)
    def remind(self, event: StateTimeout) -> None: ...

    @on_timeout(Status.OPEN, Status.ASSIGNED, after=timedelta(days=2), to=Status.CLOSED, when=is_paid)
    def give_up(self, event: StateTimeout) -> None: ...

    @on_timeout(Status.ASSIGNED, after=0.25, to=STAY)
    def look(self, event: StateTimeout) -> None: ...


def test_timeouts_are_shown_with_their_times() -> None:
    assert format(Ready, "mermaid").splitlines()[1:] == [
        '    state "OPEN" as OPEN',
        '    state "ASSIGNED" as ASSIGNED',
        "    ASSIGNED : after 0.25 s / stay",
        '    state "CLOSED" as CLOSED',
        "    [*] --> OPEN : Spawn",
        "    OPEN --> ASSIGNED : after 1 h 30 min",
        "    OPEN --> CLOSED : after 2 d [is_paid]",
        "    ASSIGNED --> CLOSED : after 2 d [is_paid]",
        "    CLOSED --> [*]",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *[(0, "0 s"), (0.25, "0.25 s"), (59, "59 s"), (60, "1 min"), (61.5, "1 min 1.5 s")],
        *[(3_600, "1 h"), (90_061, "1 d 1 h 1 min 1 s")],
    ],
)
def test_a_time_is_given_in_units_that_are_read_easily(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# -- a snapshot -----------------------------------------------------------------------------------------------------


def test_a_snapshot_draws_its_machine_with_the_state_marked(system_of: Any, sim: Any) -> None:
    async def scenario() -> None:
        async with system_of(Ticket) as system:
            ticket = await system.spawn(Ticket, "t-1")
            await ticket.ask(Assign())
            snapshot = ticket.snapshot()
            plain = format(Ticket, "mermaid").splitlines()
            marked = format(snapshot, "mermaid").splitlines()
            assert marked[: len(plain)] == plain
            assert marked[len(plain) :] == [
                "    classDef current fill:#fd5,stroke:#840,color:#000",
                "    class ASSIGNED current",
            ]
            (coloured,) = (line for line in f"{snapshot:dot}".splitlines() if "#ffdd55" in line)
            assert coloured.startswith('    "ASSIGNED" [label=<<b>ASSIGNED</b>')
            assert f"{snapshot:table}".count("ASSIGNED (current) ") == 5
            await ticket.ask(Close())
            assert "CLOSED (final, current)" in f"{ticket.snapshot():table}"

    sim(scenario)


def test_a_snapshot_formats_as_text_as_before_and_shows_the_definition_nowhere(
    system_of: Any, sim: Any
) -> None:
    async def scenario() -> None:
        async with system_of(Ticket) as system:
            ticket = await system.spawn(Ticket, "t-1")
            snapshot = ticket.snapshot()
            assert f"{snapshot}" == str(snapshot) == repr(snapshot)
            assert "efinition" not in repr(snapshot)
            assert list(dataclasses.asdict(snapshot)) == [
                *("machine", "machine_id", "state", "data", "seq", "incarnation", "allowed")
            ]
            assert snapshot == Snapshot("Ticket", "t-1", Status.OPEN, {}, 1, 0, snapshot.allowed)

    sim(scenario)


@pytest.mark.parametrize("copied", [lambda made: made, lambda made: pickle.loads(pickle.dumps(made))])  # noqa: S301
def test_a_snapshot_that_no_ref_gave_says_that_it_cannot_be_drawn(copied: Any) -> None:
    snapshot = copied(Snapshot("Ticket", "t-1", Status.OPEN, {}, 1, 0, ()))
    with pytest.raises(
        ValueError, match=r"the snapshot of t-1 .* draw one that comes from ref\.snapshot\(\)"
    ):
        format(snapshot, "dot")


# -- what is not a picture ------------------------------------------------------------------------------------------


def test_an_unknown_picture_is_refused_with_the_three_that_there_are() -> None:
    snapshot = Snapshot("Ticket", "t-1", Status.OPEN, {}, 1, 0, ())
    for thing in (Ticket, snapshot, Machine):
        with pytest.raises(ValueError, match=r"there is no picture 'svg'; there are mermaid, dot, table$"):
            format(thing, "svg")


def test_a_class_formats_as_any_class_does() -> None:
    assert f"{Ticket}" == str(Ticket) == f"<class '{__name__}.Ticket'>"


def test_an_abstract_machine_class_has_no_picture() -> None:
    with pytest.raises(DefinitionError, match="not a machine that can live"):
        format(Machine, "table")


# -- names ------------------------------------------------------------------------------------------------------------

Odd = Enum(
    "Odd", ["a b", 'q"u\\o', "x|y{z}<b>", "start", "end", "any state", "any_state", "state_1", "c:d;#%%\n"]
)


class OddNames(Machine[Odd], initial=Odd["a b"], final=(Odd["x|y{z}<b>"],)):  # type: ignore[valid-type]
    """States whose names mean something to those who draw."""


def test_names_that_mean_something_to_mermaid_are_replaced_and_shown_escaped() -> None:
    lines = format(OddNames, "mermaid").splitlines()
    assert lines[1:10] == [
        '    state "a b" as state_1_',
        '    state "q#34;u#92;o" as state_2',
        '    state "x#124;y#123;z#125;#60;b#62;" as state_3',
        '    state "start" as start',
        '    state "end" as state_5',
        '    state "any state" as state_6',
        '    state "any_state" as any_state',
        '    state "state_1" as state_1',
        '    state "c#58;d#59;#35;#37;#37; " as state_9',
    ]
    assert lines[10:13] == [
        "    [*] --> state_1_ : Spawn",
        '    state "any state" as any_state_',
        "    any_state_ --> state_1_ : TransitionRequested",
    ]


def test_names_that_mean_something_to_graphviz_are_escaped() -> None:
    text = format(OddNames, "dot")
    assert r'"q\"u\\o" [label=<<b>q&quot;u\o</b>>];' in text
    assert '"x|y{z}<b>" [label=<<b>x|y{z}&lt;b&gt;</b>>' in text
    assert '"start_" -> "a b"' in text
    assert '"x|y{z}<b>" -> "end_";' in text
    assert '"any state_" -> "any state"' in text


def test_names_that_mean_something_to_markdown_are_escaped_and_columns_stay_aligned() -> None:
    lines = format(OddNames, "table").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert any(line.startswith(r"| x\|y{z}\<b> (final) |") for line in lines)
    assert any(line.startswith("| c:d;#%%  ") for line in lines)


Wide = Enum("Wide", ["\u958b\u304f", "SHUT"])


class WideNames(Machine[Wide], initial=Wide["\u958b\u304f"]):  # type: ignore[valid-type]
    pass


def test_wide_characters_take_two_columns() -> None:
    assert format(WideNames, "table").splitlines()[-2:] == [
        "| \u958b\u304f    |                     |          |",
        "| SHUT    |                     |          |",
    ]


@pytest.mark.parametrize("machine_class", [Ticket, Lamp, OddNames, Order], ids=lambda cls: cls.__name__)
def test_graphviz_draws_it_and_shows_every_name(machine_class: Any) -> None:
    svg = Picture(machine_class).svg
    names = definition_of(machine_class).states
    assert svg.count('class="node"') >= len(names) + 1
    texts = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")  # noqa: S314 -- our own
    assert all(node.name.strip() in texts for node in names.values())
