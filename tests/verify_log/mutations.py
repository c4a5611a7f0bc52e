"""Changes that make a legal log illegal, each with the line at which it must be refused."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.verify_log.world import EDGES, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Line: TypeAlias = dict[str, Any]
Log: TypeAlias = list[Line]
Mutant: TypeAlias = tuple[list[Any], int]
Mutation: TypeAlias = "Callable[[Log], Iterator[Mutant]]"

REFUSED = ("vetoed", "unhandled", "failed")
MUTATIONS: dict[str, Mutation] = {}


def mutation(make: Mutation) -> Mutation:
    MUTATIONS[make.__name__] = make
    return make


def where(log: Log, *names: str, duplicate: bool = False) -> list[int]:
    """Return the places of the records with these names that tell of a machine that is, or is then, alive."""
    return [
        n
        for n, line in enumerate(log)
        if line["event"] in names
        and line.get("duplicate", False) is duplicate
        and ("source" in line or line["event"] == "committed")
    ]


def after(log: Log, n: int, *names: str) -> int | None:
    """Return the place of the next record that tells of the same machine."""
    for m in range(n + 1, len(log)):
        line = log[m]
        speaks = "source" in line or line["event"] not in {"dead_lettered", "callback_failed"}
        if line["machine_id"] == log[n]["machine_id"] and speaks:
            if line.get("duplicate") or line["event"] == "after_hook_failed":
                return None
            if not names or line["event"] in names:
                return m
    return None


def changed(log: Log, n: int, **fields: Any) -> Mutant:
    """Change fields of one line; None takes one away. That line is wrong."""
    lines = [*log]
    lines[n] = deepcopy(log[n]) | fields
    for name, value in fields.items():
        if value is None:
            del lines[n][name]
    return lines, n


def replaced(log: Log, n: int, text: bytes) -> Mutant:
    return [*log[:n], text, *log[n + 1 :]], n


def without(log: Log, n: int) -> list[Any]:
    return [*log[:n], *log[n + 1 :]]


def changer(name: str, places: tuple[str, ...], change: Callable[[Log, int], dict[str, Any] | None]) -> None:
    """Declare a mutation that changes the fields of one line of certain names."""

    def make(log: Log) -> Iterator[Mutant]:
        for n in where(log, *places):
            fields = change(log, n)
            if fields is not None:
                yield changed(log, n, **fields)

    MUTATIONS[name] = make


def other_state(log: Log, n: int, name: str) -> str:
    states = STATES[log[n]["machine"]]
    return next(state for state in states if state != log[n].get(name))


def is_held(log: Log, n: int) -> bool:
    """Return whether the machine is in quarantine before this line."""
    names = [line["event"] for line in log[:n] if line["machine_id"] == log[n]["machine_id"]]
    ends = [name for name in names if name in {"quarantined", "released", "stopped"}]
    return ends[-1:] == ["quarantined"]


def no_edge(log: Log, n: int) -> str | None:
    line = log[n]
    leads = EDGES.get((line["machine"], line.get("source"), line["event_type"]), set())
    return next((state for state in STATES[line["machine"]] if state not in leads), None)


# -- lines that are lost, doubled, exchanged --------------------------------------------------------------------------

for _name in ("committed", "restarted", "quarantined", "stopped"):

    def _drop(log: Log, name: str = _name) -> Iterator[Mutant]:
        for n in where(log, name):
            m = after(log, n)
            if m is not None:
                yield without(log, n), m - 1

    def _double(log: Log, name: str = _name) -> Iterator[Mutant]:
        for n in where(log, name):
            yield [*log[: n + 1], *log[n:]], n + 1

    MUTATIONS[f"a line is lost: {_name}"] = _drop
    MUTATIONS[f"a line is doubled: {_name}"] = _double


@mutation
def a_release_is_lost(log: Log) -> Iterator[Mutant]:
    for n in where(log, "released"):
        m = after(log, n, "committed", *REFUSED)
        if m is not None and after(log, n) == m:
            yield without(log, n), m - 1


@mutation
def a_release_is_doubled(log: Log) -> Iterator[Mutant]:
    for n in where(log, "released"):
        yield [*log[: n + 1], *log[n:]], n + 1


@mutation
def two_commits_are_exchanged(log: Log) -> Iterator[Mutant]:
    for n in where(log, "committed"):
        m = after(log, n)
        if m is not None and log[m]["event"] == "committed":
            yield [*log[:n], log[m], *log[n + 1 : m], log[n], *log[m + 1 :]], n


@mutation
def a_refusal_and_the_commit_after_it_are_exchanged(log: Log) -> Iterator[Mutant]:
    for n in where(log, *REFUSED):
        m = after(log, n)
        if m is not None and log[m]["event"] == "committed":
            between = [line for line in log[n + 1 : m] if line["machine_id"] == log[n]["machine_id"]]
            if not between:
                yield [*log[:n], log[m], *log[n + 1 : m], log[n], *log[m + 1 :]], m


@mutation
def a_commit_comes_after_the_stop(log: Log) -> Iterator[Mutant]:
    for n in where(log, "stopped"):
        before = [
            m
            for m in where(log, "committed")
            if m < n and log[m]["machine_id"] == log[n]["machine_id"] and "source" in log[m]
        ]
        if before:
            yield [*log[: n + 1], log[before[-1]], *log[n + 1 :]], n + 1


@mutation
def a_commit_comes_before_the_release(log: Log) -> Iterator[Mutant]:
    for n in where(log, "released"):
        m = after(log, n)
        if m is not None and log[m]["event"] == "committed":
            yield [*log[:n], log[m], *log[n:m], *log[m + 1 :]], n


@mutation
def a_machine_is_born_twice(log: Log) -> Iterator[Mutant]:
    for n in where(log, "committed"):
        if "source" not in log[n]:
            yield [*log[: n + 1], {**log[n], "event_id": "second"}, *log[n + 1 :]], n + 1


@mutation
def a_machine_leaves_its_final_state(log: Log) -> Iterator[Mutant]:
    for n in where(log, "committed"):
        if log[n]["target"] == "DOOR":
            more = {**log[n], "source": "DOOR", "target": "ROAD", "event_type": "Move", "event_id": "x"}
            yield [*log[: n + 1], {**more, "seq": log[n]["seq"] + 1}, *log[n + 1 :]], n + 1


# -- the fields of one line --------------------------------------------------------------------------------------------

for _what, _names in (
    ("commit", ("committed",)),
    ("refusal", REFUSED),
    ("restart", ("restarted",)),
    ("quarantine", ("quarantined",)),
    ("release", ("released",)),
    ("stop", ("stopped",)),
):
    changer(f"seq of a {_what} is higher", _names, lambda log, n: {"seq": log[n]["seq"] + 1})
    changer(f"seq of a {_what} is lower", _names, lambda log, n: {"seq": log[n]["seq"] - 1})
    changer(f"incarnation of a {_what}", _names, lambda log, n: {"incarnation": log[n]["incarnation"] + 1})
    changer(f"source of a {_what}", _names, lambda log, n: {"source": other_state(log, n, "source")})
    changer(f"state of a {_what} is unknown", _names, lambda log, n: {"target": "NOWHERE"})
    changer(
        f"machine of a {_what}",
        _names,
        lambda log, n: {"machine": "Signal" if log[n]["machine"] == "Parcel" else "Parcel"},
    )
    changer(f"machine of a {_what} is unknown", _names, lambda log, n: {"machine": "Ship"})
    changer(
        f"machine_id of a {_what}",
        _names,
        lambda log, n: {"machine_id": "nobody"} if "source" in log[n] else None,
    )

changer("target of a commit", ("committed",), lambda log, n: (s := no_edge(log, n)) and {"target": s})
changer(
    "target of a refusal",
    ("vetoed", "failed"),
    lambda log, n: (s := no_edge(log, n)) and {"target": s},
)
changer("a commit leads nowhere", ("committed",), lambda log, n: {"target": None})
changer(
    "a commit begins nowhere", ("committed",), lambda log, n: {"source": None} if "source" in log[n] else None
)
for _event in ("vetoed", "unhandled", "failed", "expired"):
    changer(f"a commit was {_event}", ("committed",), lambda log, n, to=_event: {"event": to})
changer("a refusal was committed", REFUSED, lambda log, n: {"event": "committed"})
changer(
    "what a transition takes is unhandled",
    ("failed",),
    lambda log, n: {"event": "unhandled", "target": None} if log[n]["event_type"] == "Break" else None,
)
changer(
    "what is unhandled was vetoed",
    ("unhandled",),
    lambda log, n: {"event": "vetoed"} if log[n]["event_type"] == "Thank" else None,
)
changer("an outcome that there is not", ("committed",), lambda log, n: {"event": "comitted"})
changer("an event that there is not", ("committed", *REFUSED), lambda log, n: {"event_type": "Fly"})
changer(
    "an event that leads nowhere",
    ("committed",),
    lambda log, n: {"event_type": "Post"} if "source" in log[n] and log[n]["machine"] == "Parcel" else None,
)
changer("an event without an id", ("committed", *REFUSED), lambda log, n: {"event_id": None})
changer("a restart was a stop without its state", ("restarted",), lambda log, n: {"source": None})
changer(
    "a stop was a release", ("stopped",), lambda log, n: None if is_held(log, n) else {"event": "released"}
)
changer("a restart was a release", ("restarted",), lambda log, n: {"event": "released"})
changer("an after-hook that there is not", ("after_hook_failed",), lambda log, n: {"hook": "tell_us"})
changer("an after-hook of no commit", ("after_hook_failed",), lambda log, n: {"event_id": "never"})
changer("an after-hook of no transition", ("after_hook_failed",), lambda log, n: {"target": "DOOR"})
changer("a commit that is called a duplicate", ("committed",), lambda log, n: {"duplicate": True})


@mutation
def an_event_is_committed_twice(log: Log) -> Iterator[Mutant]:
    for n in where(log, "committed"):
        m = after(log, n)
        if m is not None and log[m]["event"] == "committed":
            yield (
                changed(log, m, event_id=log[n]["event_id"], causation_id=None)
                if "causation_id" in log[m]
                else changed(log, m, event_id=log[n]["event_id"])
            )


@mutation
def an_after_hook_fails_before_the_commit(log: Log) -> Iterator[Mutant]:
    for n in where(log, "after_hook_failed"):
        whose = (log[n]["machine_id"], log[n]["event_id"])
        found = [m for m in where(log, "committed") if (log[m]["machine_id"], log[m]["event_id"]) == whose]
        if len(found) == 1:  # in a second life the id may come again
            for m in found:
                yield [*log[:m], log[n], *log[m:n], *log[n + 1 :]], m


@mutation
def an_after_hook_fails_twice(log: Log) -> Iterator[Mutant]:
    for n in where(log, "after_hook_failed"):
        if log[n]["hook"] == "tell_them":
            yield [*log[: n + 1], *log[n:]], n + 1


for _key, _value in (
    ("event", "vetoed"),
    ("event_id", "never"),
    ("event_type", "Spawn"),
    ("target", "DOOR"),
    ("seq", 99),
    ("duplicate", False),
):

    def _change(log: Log, key: str = _key, value: Any = _value) -> Iterator[Mutant]:
        for n in where(log, "committed", duplicate=True):
            if log[n][key] != value:
                yield changed(log, n, **{key: value})

    MUTATIONS[f"{_key} of a duplicate"] = _change


# -- what is no record ------------------------------------------------------------------------------------------------

for _name, _text in {
    "garbage": b"\x00\x01\x02\xff\xfe\n",
    "not UTF-8": b'{"event":"\xe9"}\n',
    "an empty line": b"\n",
    "an array": b"[1,2]\n",
    "a number": b"7\n",
    "not a number": b'{"seq":NaN}\n',
    "a line of others": b'{"event":"user logged in","level":"info"}\n',
    "nested too deep": b"[" * 5_000 + b"\n",
    "a long line": b'{"event":"' + b"x" * 4_200_000 + b'"}\n',
}.items():

    def _replace(log: Log, text: bytes = _text) -> Iterator[Mutant]:
        for n in range(0, len(log), 40):
            yield replaced(log, n, text)

    MUTATIONS[f"instead of a line: {_name}"] = _replace


@mutation
def a_line_is_cut_off(log: Log) -> Iterator[Mutant]:
    for n in range(0, len(log), 20):
        text = json.dumps(log[n]).encode()
        yield replaced(log, n, text[: len(text) // 2] + b"\n")


@mutation
def the_last_line_is_cut_off(log: Log) -> Iterator[Mutant]:
    text = json.dumps(log[-1]).encode()
    for end in (1, len(text) // 2, len(text) - 1):
        yield replaced(log, len(log) - 1, text[:end])


for _key, _value in (
    *(("seq", None), ("seq", "7"), ("seq", True), ("seq", 1.5), ("incarnation", -1), ("incarnation", None)),
    *(("machine_id", 7), ("machine_id", None), ("event", None), ("event", 7), ("source", ["x"])),
    *(("duplicate", "yes"), ("event_type", 7), ("target", {})),
):

    def _damage(log: Log, key: str = _key, value: Any = _value) -> Iterator[Mutant]:
        for n in where(log, "committed")[::4]:
            if value is not None or key in log[n]:
                yield changed(log, n, **{key: value})

    MUTATIONS[f"field {_key} is {_value!r}"] = _damage
