"""What the journal in a file says while it does not know, and how it comes to know (C25)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm import (
    EventIdUsed,
    Fenced,
    JournalClosed,
    JournalError,
    JournalFull,
    JournalUnusable,
    NotStored,
    OutcomeUnknown,
)
from actorfsm.journal.entry import Answer, Batch, Entry, Message, Payload, Pending
from actorfsm.journal.executor import LoopExecutor
from actorfsm.journal.group import Group
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.journal.sqlite.store import Store
from actorfsm.testing.loop import simulate
from tests.journal.stages import SQLiteStage


def batch(seq: int, machine_id: str = "a") -> Batch:
    return Batch(entries=(Entry(machine_id=machine_id, machine="M", seq=seq, kind="committed", at_us=seq),))


@pytest.fixture(params=[False, True], ids=["before", "after"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> SQLiteStage:
    """A stage whose COMMIT fails before it is done, or after it."""
    return SQLiteStage(tmp_path, late=request.param)


class Commits:
    """Lets COMMIT fail, and all after it until `heal`."""

    def __init__(self, stage: SQLiteStage) -> None:
        trouble = self.trouble = stage.trouble
        self.fails = self.failing = False
        trouble.strikes = self.strikes  # type: ignore[method-assign]

    def strikes(self, sql: str) -> bool:
        self.failing = self.failing or (self.fails and sql == "COMMIT")
        return self.failing

    def heal(self) -> None:
        self.fails = self.failing = False


def test_while_it_is_unknown_nothing_is_tried_and_then_the_truth_is_told(stage: SQLiteStage) -> None:
    async def scenario() -> None:
        commits = Commits(stage)
        journal = await stage.open()
        await journal.append(batch(1))
        commits.fails = True
        with pytest.raises(OutcomeUnknown, match="could not be settled yet"):
            await journal.append(batch(2))
        for _ in range(2):
            with pytest.raises(NotStored, match="cannot be used now"):
                await journal.append(batch(1, "b"))
            with pytest.raises(OutcomeUnknown, match="still cannot be settled"):
                await journal.settle(batch(2))
            with pytest.raises(JournalError, match="cannot be used now"):
                await journal.load("a")
            with pytest.raises(NotStored):
                await journal.snapshot("a")
        commits.heal()
        is_stored = await journal.settle(batch(2))
        assert is_stored == stage.trouble.late
        stored = await journal.load("a")
        assert stored is not None
        assert stored.image.seq == (2 if is_stored else 1)
        await journal.append(batch(3 if is_stored else 2))
        assert await journal.load("b") is None
        await stage.crash(journal)
        journal = await stage.open()
        assert len(await journal.entries("a")) == (3 if is_stored else 2)
        await journal.close()

    simulate(scenario)


def test_what_is_no_batch_says_too_that_it_does_not_know(stage: SQLiteStage) -> None:
    async def scenario() -> None:
        commits = Commits(stage)
        journal = await stage.open()
        for seq in (1, 2, 3):
            await journal.append(batch(seq))
        commits.fails = True
        with pytest.raises(OutcomeUnknown):
            await journal.snapshot("a", keep=1)
        commits.heal()
        stored = await journal.load("a")
        assert stored is not None
        assert stored.image.seq == 3
        assert len(await journal.entries("a")) == (1 if stage.trouble.late else 3)
        await journal.close()

    simulate(scenario)


def test_whether_a_change_was_made_whose_commit_failed_nobody_can_tell_though_all_is_settled_at_once(
    stage: SQLiteStage,
) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        for seq in (1, 2, 3):
            await journal.append(batch(seq))
        stage.trouble.strikes = lambda sql: sql == "COMMIT"  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            await journal.snapshot("a", keep=1)
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        assert len(await journal.entries("a")) == (1 if stage.trouble.late else 3)
        await journal.append(batch(4))
        await journal.close()

    simulate(scenario)


@pytest.mark.rule("C25")
def test_what_tells_nothing_of_itself_does_not_answer_for_a_whole_group(stage: SQLiteStage) -> None:
    """What says that a promise is done looks stored as soon as there is no such promise."""

    async def scenario() -> None:
        journal = await stage.open()
        stage.trouble.strikes = lambda sql: sql == "COMMIT"  # type: ignore[method-assign]
        group = [journal.append(Batch(settled=("none/1/0",))), journal.append(batch(1))]
        answers = await asyncio.gather(*group, return_exceptions=True)
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        is_stored = len(await journal.entries("a")) == 1
        assert is_stored == stage.trouble.late
        assert [answer is None for answer in answers] == [is_stored] * 2
        await journal.close()

    simulate(scenario)


def test_what_is_no_error_of_sqlite_leaves_no_transaction_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        journal = await stage.open()
        stage.trouble.strikes = lambda sql: sql.startswith("INSERT INTO machines")  # type: ignore[method-assign]
        stage.trouble.error = MemoryError  # type: ignore[method-assign,assignment]
        with pytest.raises(OutcomeUnknown, match="MemoryError"):
            await journal.append(batch(1))
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        assert await journal.settle(batch(1)) is False
        await journal.append(batch(1))
        assert len(await journal.entries("a")) == 1
        await journal.close()

    simulate(scenario)


def test_an_entry_that_is_there_though_its_machine_is_not_is_never_written_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        journal = await stage.open()
        await journal.append(batch(1))
        with closing(sqlite3.connect(stage.path)) as other, other:
            other.execute("DELETE FROM machines")
        with pytest.raises(Fenced):  # this owner remembers
            await journal.append(batch(1))
        await journal.close()
        journal = await stage.open()
        with pytest.raises(NotStored, match="did not store it: UNIQUE") as refused:
            await journal.append(batch(1))
        assert not isinstance(refused.value, EventIdUsed)
        await journal.append(batch(1, "b"))
        await journal.close()

    simulate(scenario)


def test_a_store_that_is_not_open_stores_nothing_and_reads_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "orders.db", "full", sqlite3.connect, read_only=False)
    [answer] = store.write([batch(1)])
    assert isinstance(answer, JournalClosed)
    for call in (store.read, store.change):
        with pytest.raises(JournalClosed):
            call(lambda _connection: 1)
    assert not list(tmp_path.iterdir())


def test_no_room_at_the_commit_is_a_clean_refusal_even_if_the_log_cannot_be_emptied(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        stage.trouble.full = True
        journal = await stage.open()
        await journal.append(batch(1))
        stage.trouble.strikes = lambda sql: sql.startswith(("COMMIT", "PRAGMA"))  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(JournalFull, match="nothing was stored"):
                await journal.append(batch(2))
            assert len(await journal.entries("a")) == 1
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        await journal.append(batch(2))
        await journal.close()

    simulate(scenario)


@pytest.mark.parametrize("statement", ["INSERT OR REPLACE INTO snapshots", "BEGIN"])
def test_a_change_that_fails_before_its_commit_is_surely_not_made(statement: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        journal = await stage.open()
        await journal.append(batch(1))
        stage.trouble.strikes = lambda sql: sql.startswith(statement)  # type: ignore[method-assign]
        with pytest.raises(NotStored, match="did not store it: injected"):
            await journal.snapshot("a", keep=0)
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        assert len(await journal.entries("a")) == 1
        await journal.close()

    simulate(scenario)


def test_a_reader_that_keeps_the_log_keeps_the_answer_back(tmp_path: Path) -> None:
    """The log cannot be emptied while somebody reads in it: until then it is not known what a crash would leave."""

    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        commits = Commits(stage)
        connect = stage.trouble.connect
        stage.trouble.connect = lambda *given, **more: connect(*given, timeout=0, **more)  # type: ignore[method-assign]
        journal = await stage.open()
        await journal.append(batch(1))
        with closing(sqlite3.connect(stage.path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM machines").fetchall()
            await journal.append(batch(2))
            stage.trouble.strikes = lambda sql: sql == "COMMIT"  # type: ignore[method-assign]
            with pytest.raises(OutcomeUnknown):
                await journal.append(batch(3))
            stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
            with pytest.raises(OutcomeUnknown, match="a reader keeps the log"):
                await journal.settle(batch(3))
            with pytest.raises(NotStored, match="a reader keeps the log"):
                await journal.append(batch(3))
        assert not commits.failing
        assert await journal.settle(batch(3)) is False
        await journal.append(batch(3))
        await journal.close()

    simulate(scenario)


def test_what_cannot_be_read_is_said_and_may_be_read_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        journal = await stage.open()
        await journal.append(batch(1))
        stage.trouble.strikes = lambda sql: sql.startswith("SELECT")  # type: ignore[method-assign]
        with pytest.raises(JournalError, match="cannot be read: injected"):
            await journal.load("a")
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        assert await journal.load("a") is not None
        await journal.close()
        for ask in (
            journal.pending,
            lambda: journal.load("a"),
            lambda: journal.snapshot("a"),
            lambda: journal.settle(batch(1)),
        ):
            with pytest.raises(JournalClosed):
                await ask()

    simulate(scenario)


def test_which_event_id_is_used_is_said_also_when_looking_for_it_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = SQLiteStage(tmp_path)
        journal = await stage.open()
        first = Message(event=Payload("Pay", 1, "{}"), event_id="pay-1")
        letter = Pending(key="k", kind="event", machine_id="a", message=first)
        await journal.append(Batch(accepted=(letter,)))
        with pytest.raises(EventIdUsed, match="'pay-1'"):
            await journal.append(Batch(accepted=(letter,)))
        stage.trouble.strikes = lambda sql: sql.startswith("SELECT 1 FROM pending")  # type: ignore[method-assign]
        with pytest.raises(NotStored, match="UNIQUE"):
            await journal.append(Batch(accepted=(letter,)))
        stage.trouble.strikes = lambda _sql: False  # type: ignore[method-assign]
        await journal.close()

    simulate(scenario)


def test_a_batch_of_dead_letters_alone_is_settled_by_looking_for_them(stage: SQLiteStage) -> None:
    from actorfsm.journal.entry import DeadMessage

    async def scenario() -> None:
        commits = Commits(stage)
        journal = await stage.open()
        message = Message(event=Payload("Pay", 1, "{}"), event_id="pay-1")
        letter = Pending(key="k", kind="event", machine_id="a", message=message)
        await journal.append(Batch(accepted=(letter,)))
        dead = DeadMessage(machine_id="a", message=message, reason="gone", at_us=1)
        gone = Batch(settled=("k",), dead=(dead,))
        commits.fails = True
        with pytest.raises(OutcomeUnknown):
            await journal.append(gone)
        commits.heal()
        assert await journal.settle(gone) == stage.trouble.late
        assert len(await journal.pending()) == (0 if stage.trouble.late else 1)
        assert len(await journal.dead_letters()) == (1 if stage.trouble.late else 0)
        await journal.close()

    simulate(scenario)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (sqlite3.SQLITE_CANTOPEN, JournalUnusable, "may this user write"),
        (sqlite3.SQLITE_READONLY, JournalUnusable, "may this user write"),
        (sqlite3.SQLITE_IOERR, JournalUnusable, "cannot be opened: injected"),
        (sqlite3.SQLITE_FULL, JournalFull, "no room"),
    ],
)
def test_a_file_that_cannot_be_opened_is_refused_and_the_lock_given_back(
    code: int, error: type[JournalError], said: str, tmp_path: Path
) -> None:
    def connect(*_given: Any, **_more: Any) -> sqlite3.Connection:
        failure = sqlite3.OperationalError("injected")
        failure.sqlite_errorcode = code
        raise failure

    async def scenario() -> None:
        with pytest.raises(error, match=said):
            await SQLiteJournal(tmp_path / "orders.db", connect=connect).open()
        journal = SQLiteJournal(tmp_path / "orders.db")
        await journal.open()
        assert repr(journal) == f"<SQLiteJournal {tmp_path / 'orders.db'} epoch=1>"
        await journal.close()
        assert repr(journal).endswith(" closed>")

    simulate(scenario)


def test_a_lock_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "orders.db-lock").mkdir()

    async def scenario() -> None:
        with pytest.raises(JournalUnusable, match=r"orders\.db-lock cannot be written"):
            await SQLiteJournal(tmp_path / "orders.db").open()

    simulate(scenario)


# -- groups and executors ----------------------------------------------------------------------------------------------


def run_group(write: Callable[..., Any], use: Callable[[Group], Coroutine[Any, Any, None]]) -> None:
    async def scenario() -> None:
        await use(Group(LoopExecutor(), write))

    simulate(scenario)


def test_a_store_that_breaks_leaves_nobody_waiting() -> None:
    def write(_batches: Any) -> Any:
        raise MemoryError

    async def use(group: Group) -> None:
        for answer in (group.add(batch(1)), group.add(batch(2))):
            with pytest.raises(OutcomeUnknown, match="MemoryError"):
                await answer

    run_group(write, use)


def test_a_call_that_nobody_waits_for_any_more_is_made_all_the_same() -> None:
    made: list[int] = []

    async def scenario() -> None:
        executor = LoopExecutor()
        given_up = executor.submit(lambda: made.append(1))
        given_up.cancel()
        await executor.submit(lambda: made.append(2))
        assert made == [1, 2]

    simulate(scenario)


def test_what_comes_while_the_store_writes_is_the_next_group() -> None:
    groups: list[int] = []

    def write(batches: Any) -> Any:
        groups.append(len(batches))
        return [None] * len(batches)

    async def use(group: Group) -> None:
        first = group.add(batch(1))
        await asyncio.sleep(0)
        rest = [group.add(batch(seq)) for seq in (2, 3, 4)]
        rest[1].cancel()
        await first
        await asyncio.wait(rest)
        assert sum(groups) == 4
        assert rest[0].result() is rest[2].result() is None

    run_group(write, use)
    assert groups in ([1, 3], [4])


def test_a_used_up_event_id_costs_the_others_nothing_and_the_order_stays(tmp_path: Path) -> None:
    def conclude(seq: int, machine_id: str, event_id: str) -> Batch:
        message = Message(event=Payload("Pay", 1, "{}"), event_id=event_id)
        entry = Entry(
            machine_id=machine_id,
            machine="M",
            seq=seq,
            kind="committed",
            at_us=seq,
            message=message,
            answer=Answer(kind="committed"),
        )
        return Batch(entries=(entry,))

    async def scenario() -> None:
        journal = SQLiteJournal(tmp_path / "orders.db")
        await journal.open()
        await journal.append(conclude(1, "a", "pay"))
        given = [conclude(1, "b", "x"), conclude(2, "a", "pay"), conclude(2, "b", "y"), conclude(2, "a", "z")]
        answers = await asyncio.gather(*map(journal.append, given), return_exceptions=True)
        # Each was judged by itself: what was to come after the one that was refused is the next entry now.
        assert [type(answer) for answer in answers] == [type(None), EventIdUsed, type(None), type(None)]
        await journal.close()

    simulate(scenario)
