"""The wait-for graph on its own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from actorfsm import AskCycle, Spawn
from actorfsm.runtime.envelope import Envelope
from actorfsm.runtime.waits import WaitGraph
from actorfsm.testing.loop import simulate

pytestmark = pytest.mark.rule("C9")


def turn_of(machine_id: str) -> Any:
    return SimpleNamespace(machine_id=machine_id, closed=False)


def ask_for(machine_id: str) -> Envelope:
    return Envelope(Spawn(), machine_id, 1, 0.0)


def graph_of(*edges: str) -> tuple[WaitGraph, dict[str, tuple[Any, Envelope]]]:
    """Return a graph with edges like "ab": a waits for b."""
    graph, asks = WaitGraph(), {}
    for edge in edges:
        asks[edge] = turn_of(edge[0]), ask_for(edge[1])
        graph.begin(*asks[edge])
    return graph, asks


def cycle_of(graph: WaitGraph, edge: str) -> tuple[str, ...] | None:
    turn, ask = turn_of(edge[0]), ask_for(edge[1])
    try:
        graph.begin(turn, ask)
    except AskCycle as cycle:
        return cycle.path if (cycle.machine_id, cycle.event) == (edge[1], ask.event) else ("wrong",)
    graph.end(turn, ask)
    return None


@pytest.mark.parametrize(
    ("edges", "asked", "path"),
    [
        ((), "aa", "aa"),
        (("ab",), "ba", "bab"),
        (("ab", "bc", "cd", "de"), "ea", "eabcde"),
        (("ab", "ac", "bd", "cd"), "da", "dacd"),
        (("ab", "ac", "bd", "cd"), "ad", None),
        (("ab", "ac", "bd", "cd", "de"), "ez", None),
        (("ab",), "ab", None),
        (("ab",), "bc", None),
        (("ab", "cd"), "bc", None),
        (("ab", "cd", "bc"), "da", "dabcd"),
        (("ab", "bx", "xy", "yz"), "cb", None),
    ],
)
def test_an_edge_is_refused_exactly_when_it_closes_a_cycle(
    edges: tuple[str, ...], asked: str, path: str | None
) -> None:
    graph, _ = graph_of(*edges)
    assert cycle_of(graph, asked) == (None if path is None else tuple(path))
    assert len(graph) == len(edges)  # a refused edge leaves nothing


def test_the_path_names_the_asker_first_and_last_and_the_error_says_what_to_do() -> None:
    graph, _ = graph_of("ab", "bc")
    with pytest.raises(AskCycle, match=r"Spawn: c -> a -> b -> c would wait for itself; use `tell`"):
        graph.begin(turn_of("c"), ask_for("a"))


def test_every_edge_ends_on_its_own() -> None:
    graph, asks = graph_of("ab", "ac")
    twin = turn_of("a"), ask_for("b")
    graph.begin(*twin)
    assert len(graph) == 3
    graph.end(*asks["ab"])
    assert cycle_of(graph, "ba") == ("b", "a", "b")  # the twin still waits
    graph.end(*twin)
    assert cycle_of(graph, "ba") is None
    assert cycle_of(graph, "ca") == ("c", "a", "c")
    graph.end(*asks["ac"])
    assert len(graph) == 0
    assert cycle_of(graph, "ca") is None


@pytest.mark.parametrize("why", ["answered", "out of time", "the turn is over"])
def test_an_edge_that_no_longer_holds_its_machine_closes_no_cycle(why: str) -> None:
    async def scenario() -> None:
        graph, asks = graph_of("ab")
        turn, ask = asks["ab"]
        ask.waiter = asyncio.get_running_loop().create_future()
        assert cycle_of(graph, "ba") == ("b", "a", "b")
        if why == "answered":
            ask.settled = True
        elif why == "the turn is over":
            turn.closed = True
        else:
            ask.waiter.set_result(True)
        assert cycle_of(graph, "ba") is None
        assert len(graph) == 1  # until the asker has woken
        graph.end(turn, ask)
        ask.waiter.cancel()
        assert len(graph) == 0

    simulate(scenario)


def test_a_search_ends_even_if_waits_have_come_to_be_circular() -> None:
    """Edges that did not count when one was added may count later: a search must not go round in them."""
    graph, asks = graph_of("ab", "bc")
    asks["bc"][1].settled = True
    graph.begin(turn_of("c"), ask_for("a"))  # no cycle now
    asks["bc"][1].settled = False
    assert cycle_of(graph, "za") is None
    assert cycle_of(graph, "az") is None
