"""What the journal on a server says when the server, or the way to it, is gone, and that it is true (C25)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from actorfsm import EventIdUsed, Fenced, JournalClosed, JournalError, NotStored, OutcomeUnknown
from actorfsm.journal.entry import Answer, Batch, Entry, Message, Payload, Pending
from actorfsm.journal.postgresql.journal import PostgreSQLJournal
from tests.journal.proxy import Cut, Proxy
from tests.journal.stages import PostgreSQLStage
from tests.postgresql_server import Server


def entry(seq: int, machine_id: str = "a", event_id: str | None = None) -> Entry:
    message = Message(event=Payload("Pay", 1, "{}"), event_id=event_id or f"e-{seq}")
    return Entry(
        machine_id=machine_id,
        machine="M",
        seq=seq,
        kind="committed",
        at_us=seq,
        target=(f"S{seq}",),
        message=message,
        answer=Answer(kind="committed"),
    )


def batch(seq: int, machine_id: str = "a") -> Batch:
    return Batch(entries=(entry(seq, machine_id),))


async def seq_of(journal: PostgreSQLJournal, machine_id: str = "a") -> int:
    stored = await journal.load(machine_id)
    return 0 if stored is None else stored.image.seq


@pytest.fixture
def stage(postgresql_server: Server) -> PostgreSQLStage:
    return PostgreSQLStage(postgresql_server)


@pytest.fixture
def proxy(postgresql_server: Server) -> Iterator[Proxy]:
    with closing(Proxy(postgresql_server.port)) as proxy:
        yield proxy


def backend_of(journal: PostgreSQLJournal) -> int:
    connection = journal._store._connection
    assert connection is not None
    return connection.info.backend_pid


# -- the way is cut ----------------------------------------------------------------------------------------------------


@pytest.mark.rule("C25")
@pytest.mark.parametrize("cut", ["before", "after", "late"])
@pytest.mark.parametrize("ends_backend", [True, False])
def test_a_connection_that_is_cut_during_the_commit_is_looked_up_before_it_is_answered(
    cut: Cut, ends_backend: bool, stage: PostgreSQLStage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gets there late, after it was answered that nothing was stored, must come to nothing."""
    if not ends_backend:
        monkeypatch.setattr("actorfsm.journal.postgresql.store._END_BACKEND", "SELECT %s, %s")

    async def scenario() -> None:
        url = stage.server.url(port=proxy.port)
        journal = PostgreSQLJournal(url, schema=stage.schema)
        await journal.open()
        await journal.append(batch(1))
        proxy.cut_at(b'"seq":2', cut)
        stored = asyncio.gather(
            *(journal.append(batch(2, name)) for name in ("a", "b")), return_exceptions=True
        )
        answers = await stored
        assert proxy.cuts == 1
        assert isinstance(answers[1], Fenced), "b has no entry 1"
        if cut == "after":
            assert answers[0] is None
            assert await seq_of(journal) == 2
        else:
            assert type(answers[0]) is NotStored
            assert await seq_of(journal) == 1
            await asyncio.get_running_loop().run_in_executor(None, proxy.deliver)
            assert await seq_of(journal) == 1
            await journal.append(batch(2))
        await journal.append(batch(3))
        assert await seq_of(journal) == 3
        assert journal.epoch == 1
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.rule("C25")
def test_while_the_server_is_gone_it_is_not_known_and_then_it_is(
    stage: PostgreSQLStage, proxy: Proxy
) -> None:
    async def scenario() -> None:
        journal = PostgreSQLJournal(stage.server.url(port=proxy.port), schema=stage.schema)
        await journal.open()
        await journal.append(batch(1))
        proxy.cut_at(b'"seq":2', "after")
        settled = journal._store._reconnect
        refused = psycopg.OperationalError("injected")
        monkey = pytest.MonkeyPatch()
        monkey.setattr(journal._store, "_reconnect", _raising(refused))
        with pytest.raises(OutcomeUnknown, match="could not be asked yet"):
            await journal.append(batch(2))
        with pytest.raises(OutcomeUnknown, match="still cannot be asked"):
            await journal.settle(batch(2))
        with pytest.raises(NotStored, match="cannot be used now: injected"):
            await journal.append(batch(1, "b"))
        with pytest.raises(JournalError, match="cannot be used now: injected"):
            await journal.load("a")
        with pytest.raises(NotStored):
            await journal.snapshot("a")
        monkey.undo()
        assert journal._store._reconnect == settled
        assert await journal.settle(batch(2))
        await journal.append(batch(3))
        await journal.close()

    asyncio.run(scenario())


def _raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.rule("C25")
def test_whether_a_change_that_is_no_batch_was_made_nobody_can_tell(
    stage: PostgreSQLStage, proxy: Proxy
) -> None:
    async def scenario() -> None:
        journal = PostgreSQLJournal(stage.server.url(port=proxy.port), schema=stage.schema)
        await journal.open()
        for seq in (1, 2, 3):
            await journal.append(batch(seq))
        proxy.cut_at(b"snapshot(", "before")
        with pytest.raises(OutcomeUnknown):
            await journal.snapshot("a", keep=0)
        assert await seq_of(journal) == 3
        await journal.snapshot("a", keep=0)
        assert not await journal.entries("a")
        await journal.close()

    asyncio.run(scenario())


def test_an_idle_connection_that_is_gone_is_made_anew_and_nobody_notices(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        for ask in (
            lambda: journal.append(batch(2)),
            lambda: journal.load("a"),
            lambda: journal.snapshot("a"),
            lambda: journal.forget("a", 1),
        ):
            stage.server.do("SELECT pg_terminate_backend(%s)", backend_of(journal))
            await ask()
        assert await seq_of(journal) == 2
        await journal.close()

    asyncio.run(scenario())


# -- the server goes ---------------------------------------------------------------------------------------------------


class Load:
    """Writes to machines as fast as it is answered, each in order, and keeps what it was answered."""

    def __init__(self, journal: PostgreSQLJournal, machines: int = 20) -> None:
        self.journal = journal
        self.stored = dict.fromkeys((f"m-{n}" for n in range(machines)), 0)
        self.answers: list[str] = []
        self.is_over = False

    async def run(self) -> None:
        await asyncio.gather(*(self._live(machine_id) for machine_id in self.stored))

    async def _live(self, machine_id: str) -> None:
        while not self.is_over:
            mine = batch(self.stored[machine_id] + 1, machine_id)
            try:
                await self.journal.append(mine)
                self.stored[machine_id] += 1
            except OutcomeUnknown:
                self.answers.append("unknown")
                self.stored[machine_id] += await self._settled(mine)
            except NotStored as refused:
                self.answers.append("not stored" if type(refused) is NotStored else repr(refused))
                await asyncio.sleep(0.02)

    async def _settled(self, mine: Batch) -> bool:
        while True:
            try:
                return await self.journal.settle(mine)
            except OutcomeUnknown:
                await asyncio.sleep(0.02)

    async def check(self, journal: PostgreSQLJournal) -> None:
        assert set(self.answers) <= {"unknown", "not stored"}
        for machine_id, seq in self.stored.items():
            assert await seq_of(journal, machine_id) == seq
            assert [found.seq for found in await journal.entries(machine_id)] == list(range(1, seq + 1))


async def in_a_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


@pytest.mark.rule("C23")
@pytest.mark.rule("C25")
def test_backends_that_are_ended_under_load_take_nothing_that_was_answered_with_them(
    stage: PostgreSQLStage,
) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        load = Load(journal)
        running = asyncio.create_task(load.run())
        for _ in range(25):
            await asyncio.sleep(0.03)
            await in_a_thread(
                lambda: stage.server.do(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'actorfsm'"
                )
            )
        await asyncio.sleep(0.1)
        load.is_over = True
        await running
        assert sum(load.stored.values()) > 40
        await load.check(journal)
        assert journal.epoch == 1
        await journal.close()

    asyncio.run(scenario())


@pytest.mark.many
@pytest.mark.rule("C23")
@pytest.mark.rule("C25")
def test_a_server_that_is_stopped_at_once_under_load_has_lost_nothing_that_was_answered(
    stage: PostgreSQLStage,
) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        load = Load(journal)
        running = asyncio.create_task(load.run())
        for _ in range(3):
            await asyncio.sleep(0.3)
            await in_a_thread(stage.server.stop)
            await asyncio.sleep(0.1)
            await in_a_thread(stage.server.start)
        await asyncio.sleep(0.3)
        load.is_over = True
        await running
        assert sum(load.stored.values()) > 40
        assert "not stored" in load.answers
        await load.check(journal)
        await journal.close()
        again = await stage.open()
        await load.check(again)
        await again.close()

    try:
        asyncio.run(scenario())
    finally:
        stage.server.ensure_started()


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_which_of_a_group_is_refused_is_found_by_trying_each(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        letter = Pending(key="k", kind="event", machine_id="a", message=entry(9).message or _none())
        used = Pending(key="l", kind="event", machine_id="a", message=entry(1).message or _none())
        answers = await asyncio.gather(
            journal.append(Batch(accepted=(letter,))),
            journal.append(Batch(accepted=(used,))),
            journal.append(Batch(accepted=(letter,))),
            journal.append(batch(1, "b")),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [type(None), EventIdUsed, EventIdUsed, type(None)]
        await journal.close()

    asyncio.run(scenario())


def _none() -> Any:
    raise AssertionError


def test_an_entry_that_is_there_though_its_machine_is_not_is_never_written_over(
    stage: PostgreSQLStage,
) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        stage.server.do(f"DELETE FROM {stage.schema}.machines")
        with pytest.raises(NotStored):
            await journal.append(batch(1))
        await journal.append(batch(1, "b"))
        await journal.close()

    asyncio.run(scenario())


def test_a_head_that_moves_between_the_look_and_the_write_is_refused(stage: PostgreSQLStage) -> None:
    """The function compares what the batch was made after with what is there, in its own statement."""

    async def scenario() -> None:
        journal = await stage.open()
        await journal.append(batch(1))
        stage.trouble.before_append = lambda: stage.server.do(f"UPDATE {stage.schema}.machines SET seq = 7")
        with pytest.raises(Fenced, match="written to a machine of this batch"):
            await journal.append(batch(2))
        await journal.close()

    asyncio.run(scenario())


def test_what_was_closed_stores_and_reads_nothing(stage: PostgreSQLStage) -> None:
    async def scenario() -> None:
        journal = await stage.open()
        await journal.close()
        for ask in (
            lambda: journal.append(batch(1)),
            lambda: journal.load("a"),
            lambda: journal.snapshot("a"),
            lambda: journal.settle(batch(1)),
        ):
            with pytest.raises(JournalClosed):
                await ask()
        reader = stage.journal(read_only=True)
        await reader.open()
        with pytest.raises(NotStored, match="to read only"):
            await reader.append(batch(1))
        await reader.close()

    asyncio.run(scenario())
