"""`actorfsm run`: systems by name, events from a file or stream, and a run that goes on where it was."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from actorfsm.journal.history import entries_of
from actorfsm.journal.sqlite.journal import SQLiteJournal

Call = Callable[..., Any]

SHOP: Final = "tests.cli.shop"
UNIX: Final = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is of POSIX")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop(SHOP, None)  # its systems are started once


def line(machine_id: str, event: str, **data: Any) -> dict[str, Any]:
    return {"machine_id": machine_id, "event": event, "data": data}


def orders(count: int) -> list[dict[str, Any]]:
    lines = []
    for n in range(count):
        lines += [line(f"o-{n}", "Create"), line(f"o-{n - 1}", "Ship", carrier="DHL")]
        lines += [
            line(f"o-{n}", "Pay", amount="9.90" if n % 10 else "900"),
            line(f"o-{n + 7}", "Pay", amount="1"),
        ]
    return lines


def write(name: str, lines: list[Any]) -> Path:
    path = Path(name)
    path.write_text("".join((at if isinstance(at, str) else json.dumps(at)) + "\n" for at in lines))
    return path


async def _stored(path: Path) -> dict[str, list[Any]]:
    journal = SQLiteJournal(path, read_only=True)
    await journal.open()
    try:
        found: dict[str, list[Any]] = {}
        after = ""
        while heads := await journal.machines(after=after):
            after = heads[-1].machine_id
            for head in heads:
                found[after := head.machine_id] = [
                    replace(entry, at_us=0, promises=(), settles=())
                    async for entry in entries_of(journal, head.machine_id)
                ]
        return found
    finally:
        await journal.close()


def stored(path: str) -> dict[str, list[Any]]:
    """Return what a journal has of each machine, but for when it was stored and how it was promised."""
    return asyncio.run(_stored(Path(path)))


# -- events ---------------------------------------------------------------------------------------------------------


def test_a_file_is_fed_and_the_summary_tells_how_events_ended_and_where_machines_are(call: Call) -> None:
    write(
        "e.jsonl",
        [
            line("a", "Create"),
            line("a", "Pay", amount="9.90"),
            "",
            line("a", "Ship", carrier="DHL"),
            line("b", "Create"),
            line("b", "Pay", amount="900"),
            line("b", "Ship", carrier="DHL"),
            line("nobody", "Pay", amount="1"),
        ],
    )
    ended = call("run", f"{SHOP}:system", "--events", "e.jsonl", "--journal", "o.db", "--json")
    assert (ended.status, ended.err) == (0, "")
    told = ended.json()
    assert told.pop("seconds") > 0
    assert told == {
        "lines": 8,
        "blank": 1,
        "bad": 0,
        "known": 0,
        "sent": 7,
        "refused": 0,
        "duplicates": 0,
        "waiting": 1,
        "outcomes": {"committed": 4, "dead_lettered": 1, "vetoed": 1},
        "machines": [
            {"class": "Order", "status": "alive", "state": "CREATED", "machines": 1},
            {"class": "Order", "status": "finished", "state": "SHIPPED", "machines": 1},
        ],
        "interrupted": False,
    }
    assert [entry.message.event_id for entry in stored("o.db")["a"]] == [
        "e.jsonl:1",
        "e.jsonl:2",
        "e.jsonl:4",
    ]
    assert call("verify", "o.db").status == 0


def test_the_summary_is_written_for_people_too(call: Call) -> None:
    write("e.jsonl", [line("a", "Create"), line("a", "Ship", carrier="DHL")])
    ended = call("run", f"{SHOP}:made", "--events", "e.jsonl")
    assert ended.status == 0
    assert ended.out.startswith("2 lines: 2 sent; ")
    words = [text.split() for text in ended.out.splitlines()[1:]]
    assert words == [
        ["outcome", "events"],
        ["committed", "1"],
        ["still", "waiting", "1"],
        ["class", "status", "state", "machines"],
        ["Order", "in", "memory", "CREATED", "1"],
    ]


def test_a_second_run_on_the_same_file_sends_nothing_again(call: Call) -> None:
    lines = orders(30)
    write("e.jsonl", lines)
    given = ("run", f"{SHOP}:Order", "--events", "e.jsonl", "--journal", "o.db", "--log", "error", "--json")
    assert call(*given).json()["sent"] == 120
    before = stored("o.db")
    ended = call(*given)
    assert ended.err == "actorfsm: the journal has e.jsonl up to line 120: going on from there\n"
    assert (ended.json()["known"], ended.json()["sent"]) == (120, 0)
    write("e.jsonl", [*lines, line("new", "Create")])
    ended = call(*given)
    assert (ended.json()["known"], ended.json()["sent"]) == (120, 1)
    now = stored("o.db")
    assert len(now.pop("new")) == 1
    assert now == before


def test_the_standard_input_is_a_stream_whose_lines_are_new_each_time_unless_it_has_a_name(
    call: Call,
) -> None:
    def feed(*more: str) -> Any:
        text = json.dumps(line("a", "Create"))
        done = subprocess.run(
            [*_python(), "run", f"{SHOP}:Order", "--events", "-", "--journal", "o.db", "--json", *more],
            input=text,  # its last line has no end
            capture_output=True,
            text=True,
            check=True,
            env=_environment(),
        )
        return json.loads(done.stdout)

    assert feed()["outcomes"] == {"committed": 1}
    assert feed()["outcomes"] == {"unhandled": 1}
    assert feed("--source", "till")["outcomes"] == {"unhandled": 1}
    assert feed("--source", "till")["known"] == 1


def test_a_gzipped_file_is_read_and_an_event_id_of_the_line_is_kept(call: Call) -> None:
    own = {**line("a", "Create"), "event_id": "mine", "headers": {"tenant": "x"}}
    Path("e.jsonl.gz").write_bytes(gzip.compress((json.dumps(own) + "\n").encode()))
    given = ("run", f"{SHOP}:Order", "--events", "e.jsonl.gz", "--journal", "o.db", "--json")
    assert call(*given).json()["outcomes"] == {"committed": 1}
    (entry,) = stored("o.db")["a"]
    assert (entry.message.event_id, entry.message.headers) == ("mine", (("tenant", "x"),))
    again = call(*given).json()
    assert (again["outcomes"], again["duplicates"], again["known"]) == ({"committed": 1}, 1, 0)


def test_machines_without_a_birth_transition_are_spawned_and_take_requests_by_the_name_of_a_state(
    call: Call,
) -> None:
    born = {"machine_id": "s", "spawn": "Seeded", "data": {"note": "x"}}
    write("e.jsonl", [born, line("s", "TransitionRequested", to="PAID")])
    given = ("run", f"{SHOP}:Seeded", "--events", "e.jsonl", "--journal", "o.db", "--json")
    told = call(*given).json()
    assert told["outcomes"] == {"committed": 2}
    assert told["machines"] == [{"class": "Seeded", "status": "alive", "state": "PAID", "machines": 1}]
    assert call(*given).json()["known"] == 2


def test_a_line_with_a_time_is_sent_when_it_has_come(call: Call) -> None:
    soon = time.time() + 0.3
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(soon)) + f".{int(soon % 1 * 1000):03}Z"
    write("e.jsonl", [line("a", "Create"), {**line("a", "Pay", amount="1"), "at": at}])
    assert call("run", f"{SHOP}:Order", "--events", "e.jsonl", "--json").json()["outcomes"] == {
        "committed": 2
    }
    assert time.time() >= soon - 0.001


def test_a_full_mailbox_is_waited_for_and_nothing_is_refused(call: Call) -> None:
    write("e.jsonl", [line("m", "Create"), *(line("m", "Hit", number=n) for n in range(60))])
    for more in ((), ("--journal", "o.db")):
        told = call("run", f"{SHOP}:Slow", "--events", "e.jsonl", "--log", "error", "--json", *more)
        assert (told.status, told.json()["outcomes"]) == (0, {"committed": 61})
    assert json.loads(stored("o.db")["m"][-1].data.json)["seen"] == list(range(60))


# -- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("[1]", "not a JSON object but list"),
        ("\x00", "not JSON: expected value at line 1 column 1"),
        (
            '{"machine_id": "a", "event": "Pay", "amount": 1}',
            "'amount' is no key of a line: the fields of the event",
        ),
        ('{"event": "Pay"}', "None is not a machine id"),
        ('{"machine_id": "a b", "event": "Pay"}', "'a b' is not a machine id"),
        ('{"machine_id": "a"}', "no event: name its class"),
        ('{"machine_id": "a", "event": 7}', "event is not a string"),
        ('{"machine_id": "a", "event": "Pya"}', "no machine takes Pya; they take Create, Pay, Ship"),
        ('{"machine_id": "a", "event": "Spawn"}', "no machine takes Spawn"),
        ('{"machine_id": "a", "event": "Pay", "data": 1}', "data is not a JSON object"),
        ('{"machine_id": "a", "event": "Pay", "data": {"amount": "x"}}', "not a Pay: amount: "),
        ('{"machine_id": "a", "event": "Pay", "event_id": ""}', "an event id is a string of 1 to 200"),
        (
            '{"machine_id": "a", "event": "Create", "headers": {"a": 1}}',
            "headers is not a JSON object of strings",
        ),
        ('{"machine_id": "a", "event": "Create", "headers": 1}', "headers is not a JSON object of strings"),
        ('{"machine_id": "a", "event": "Create", "at": "2026-01-01"}', "at is not a time with its offset"),
        ('{"machine_id": "a", "event": "Create", "at": 5}', "at is not a time with its offset"),
        ('{"machine_id": "a", "spawn": "Odrer"}', "the system has no machine class Odrer; it has Order"),
        ('{"machine_id": "a", "spawn": "Order", "event": "Pay"}', "a line has an event or spawn, not both"),
        ('{"machine_id": "a", "spawn": "Order", "data": {"paid": "x"}}', "paid: "),
        ('{"machine_id": "was", "spawn": "Order"}', "was"),
    ],
)
def test_a_line_that_is_wrong_stops_the_run_after_what_is_before_it_and_mended_it_goes_on_there(
    wrong: str, said: str, call: Call
) -> None:
    first, last = line("was", "Create"), line("was", "Pay", amount="5")
    write("e.jsonl", [first, wrong, last])
    given = ("run", f"{SHOP}:Order", "--events", "e.jsonl", "--journal", "o.db", "--json")
    ended = call(*given)
    assert ended.status == 2
    assert (ended.json()["bad"], ended.json()["sent"], ended.json()["lines"]) == (1, 1, 2)
    assert ended.err.startswith("actorfsm: e.jsonl:2: ")
    assert said in ended.err
    assert ended.err.endswith(
        "Mend the line and run this again, it goes on there; or pass over such lines with --on-error skip\n"
    )
    assert ended.err.count("\n") == 1
    write("e.jsonl", [first, line("other", "Create"), last])
    told = call(*given).json()
    assert (told["known"], told["sent"], told["outcomes"]) == (1, 2, {"committed": 2})


def test_lines_that_are_wrong_are_passed_over_if_the_user_says_so_and_told_once(call: Call) -> None:
    write("e.jsonl", [line("a", "Create"), "{", "x" * 600_000, line("a", "Pay", amount="1")])
    given = (
        "run",
        f"{SHOP}:Order",
        "--events",
        "e.jsonl",
        "--journal",
        "o.db",
        "--on-error",
        "skip",
        "--json",
    )
    ended = call(*given)
    assert ended.status == 1
    assert ended.json()["outcomes"] == {"committed": 2}
    assert [told.split(": ", 2)[1] for told in ended.err.splitlines()] == ["e.jsonl:2", "e.jsonl:3"]
    assert "longer than 524,288 bytes" in ended.err
    again = call(*given)
    assert again.err.splitlines() == ["actorfsm: the journal has e.jsonl up to line 4: going on from there"]
    assert (again.json()["known"], again.json()["bad"]) == (2, 2)


def test_an_event_id_with_another_content_stops_the_run(call: Call) -> None:
    lines = [{**line("a", "Create"), "event_id": "x"}, {**line("a", "Pay", amount="1"), "event_id": "x"}]
    write("e.jsonl", lines)
    ended = call(
        "run", f"{SHOP}:Order", "--events", "e.jsonl", "--journal", "o.db", "--log", "error", "--json"
    )
    assert (ended.status, ended.json()["refused"]) == (2, 1)
    assert ended.err.startswith("actorfsm: e.jsonl:2: a knows the event id 'x' as another Create")


def test_another_file_of_the_same_name_is_noticed(call: Call) -> None:
    write("e.jsonl", [line("a", "Create"), line("b", "Create")])
    given = ("run", f"{SHOP}:Order", "--events", "e.jsonl", "--journal", "o.db")
    assert call(*given).status == 0
    write("e.jsonl", [line("a", "Create"), line("c", "Create")])
    ended = call(*given)
    assert ended.status == 2
    assert "e.jsonl:2 is for c, and the journal knows this line as one for b" in ended.err
    assert "--source" in ended.err
    write("e.jsonl", [line("a", "Create")])
    ended = call(*given)
    assert ended.status == 2
    assert "e.jsonl has 1 lines, and the journal knows line 2" in ended.err
    assert sorted(stored("o.db")) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shop",), "shop: name a system, a function that makes one, or a machine class as module:name"),
        (("nowhere:system",), "nowhere cannot be imported (ModuleNotFoundError"),
        ((f"{SHOP}:nothing",), "tests.cli.shop has no nothing"),
        ((f"{SHOP}:a_number",), "tests.cli.shop:a_number is of type int"),
        ((f"{SHOP}:Pay",), "tests.cli.shop:Pay is of type "),
        ((f"{SHOP}:makes_nothing",), "has returned int, and not an ActorSystem"),
        ((f"{SHOP}:opens_nothing",), "has yielded int, and not an ActorSystem"),
        ((f"{SHOP}:line_of",), "tests.cli.shop has no line_of"),
        ((f"{SHOP}:made_only_with",), "say where the system is kept with --journal"),
        ((f"{SHOP}:system", "--events", "nowhere.jsonl"), "nowhere.jsonl: No such file or directory"),
        ((f"{SHOP}:system", "--events", "."), ".: Is a directory"),
        ((f"{SHOP}:system", "--stay"), "--source and --stay need --events"),
        (
            (f"{SHOP}:system", "--events", "-", "--source", "\n"),
            "--source: give 1 to 180 printable characters",
        ),
        ((f"{SHOP}:system", "--journal", "redis://x"), "this version has no journal at redis://"),
    ],
)
def test_what_cannot_be_run_is_a_line_with_the_remedy_and_leaves_no_file(
    arguments: tuple[str, ...], said: str, call: Call
) -> None:
    ended = call("run", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not list(Path().iterdir())


# -- systems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["system", "Order", "made", "made_with", "made_only_with", "made_later", "opened"]
)
def test_the_journal_that_is_given_is_the_one_that_is_used_whatever_is_named(name: str, call: Call) -> None:
    write("e.jsonl", [line("a", "Create")])
    ended = call("run", f"{SHOP}:{name}", "--events", "e.jsonl", "--journal", "o.db")
    assert (ended.status, ended.err) == (0, "")
    assert list(stored("o.db")) == ["a"]
    assert not Path("by-itself.db").exists()
    assert (name == "opened") == ("opened" in ended.out) == ("closed" in ended.out)


def test_without_one_the_systems_own_is_used(call: Call) -> None:
    write("e.jsonl", [line("a", "Create")])
    assert call("run", f"{SHOP}:made_with", "--events", "e.jsonl").status == 0
    assert list(stored("by-itself.db")) == ["a"]


# -- signals --------------------------------------------------------------------------------------------------------


def _python() -> list[str]:
    return [sys.executable, "-m", "actorfsm"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextmanager
def _started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*_python(), "run", *arguments],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    ) as running:
        try:
            yield running
        finally:
            running.kill()  # a test that fails does not wait for a program that nobody has told to stop


def _bytes(name: str) -> int:
    return sum(path.stat().st_size for path in (Path(name), Path(name + "-wal")) if path.exists())


def _run_and_send(number: int, *arguments: str, journal: str, once_it_has: int) -> tuple[int, bytes]:
    before = _bytes(journal)
    with _started(*arguments) as running:
        while running.poll() is None and _bytes(journal) < before + once_it_has:
            time.sleep(0.002)
        if running.poll() is None:
            os.kill(running.pid, number)
        out, _ = running.communicate()
    return running.returncode, out


@UNIX
@pytest.mark.timeout(240)
@pytest.mark.rule("C23", "C24")
def test_a_run_that_is_killed_again_and_again_ends_with_the_entries_of_one_that_never_was() -> None:
    write("e.jsonl", orders(400))
    given = (f"{SHOP}:Order", "--events", "e.jsonl", "--log", "error", "--json")
    subprocess.run(
        [*_python(), "run", *given, "--journal", "quiet.db"], env=_environment(), check=True, stdout=-3
    )
    ends = [
        _run_and_send(
            signal.SIGKILL, *given, "--journal", "killed.db", journal="killed.db", once_it_has=size
        )[0]
        for size in (20_000, 150_000, 5_000, 300_000)
    ]
    assert ends.count(-signal.SIGKILL) >= 2
    last = subprocess.run(
        [*_python(), "run", *given, "--journal", "killed.db"],
        env=_environment(),
        check=True,
        capture_output=True,
    )
    assert json.loads(last.stdout)["known"] > 0
    assert stored("killed.db") == stored("quiet.db")
    assert _letters("killed.db") == _letters("quiet.db")


def _letters(name: str) -> list[Any]:
    with closing(sqlite3.connect(name)) as connection:
        return sorted(connection.execute("SELECT machine_id, reason FROM dead_letters").fetchall())


@UNIX
@pytest.mark.timeout(120)
@pytest.mark.rule("C19", "C23")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_feeding_in_order_with_a_summary_and_the_next_run_goes_on(
    number: int, status: int, call: Call
) -> None:
    write("e.jsonl", orders(400))
    given = (f"{SHOP}:Order", "--events", "e.jsonl", "--journal", "o.db", "--log", "error", "--json")
    ended, out = _run_and_send(number, *given, journal="o.db", once_it_has=150_000)
    assert ended == status
    first = json.loads(out)
    assert first["interrupted"]
    assert 0 < first["sent"] < 1_600
    rest = call("run", *given).json()
    assert rest["known"] == first["sent"]
    assert rest["known"] + rest["sent"] == 1_600


@UNIX
@pytest.mark.timeout(180)
@pytest.mark.parametrize("events", [(), ("--events", "-"), ("--events", "e.jsonl", "--stay")])
def test_it_runs_until_it_is_told_to_stop(events: tuple[str, ...]) -> None:
    write("e.jsonl", [line("a", "Create")])
    with _started(f"{SHOP}:opened", *events, "--journal", "o.db", "--json", stdin=subprocess.PIPE) as running:
        while not Path("o.db-lock").exists():
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        assert running.poll() is None
        os.kill(running.pid, signal.SIGTERM)
        out, err = running.communicate()
    assert (running.returncode, err) == (143, b"")
    text = out.decode().removeprefix("opened\n").removesuffix("closed\n")
    assert json.loads(text)["interrupted"]
