"""The laws of a journal: what every one of them has to pass, whoever wrote it.

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    def test_my_journal_keeps_the_law(law, tmp_path):
        asyncio.run(law(MyStage(tmp_path)))

A law gets a `Stage`, which opens journals on one and the same store, and raises `AssertionError` where the journal does
not keep it. `FAULT_LAWS` need a `FaultyStage`, which can also let the store fail.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar

from actorfsm.errors import (
    EventIdUsed,
    Fenced,
    JournalClosed,
    JournalError,
    JournalFull,
    NotStored,
    OutcomeUnknown,
    Unsupported,
)
from actorfsm.journal.codec import FIRST, chained, checksum_of_image, decode_image, fingerprint_of
from actorfsm.journal.entry import (
    Answer,
    Batch,
    DeadMessage,
    Entry,
    Failure,
    Message,
    Payload,
    Pending,
    StoredTimer,
    inbox_key,
    promise_key,
)
from actorfsm.journal.image import Image
from actorfsm.journal.memory import MemoryJournal
from actorfsm.journal.protocol import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from actorfsm.journal.protocol import Journal

__all__ = ["FAULT_LAWS", "LAWS", "Fault", "FaultyStage", "Law", "Stage"]

T = TypeVar("T")

Fault: TypeAlias = Literal["error", "full"]


class Stage(Protocol):
    """Where a law is tried: one store, empty at first."""

    async def open(self) -> Journal:
        """Open the store, with what is in it. The journal before was closed, or `crash` was called."""
        ...

    async def crash(self, journal: Journal) -> None:
        """Let the journal's process die: it is not closed, and nothing more comes of it."""
        ...

    async def usurp(self) -> None:
        """Let another system take the machines over from the journal that is open."""
        ...


class FaultyStage(Stage, Protocol):
    """A stage whose store can fail."""

    def fail(self, nth: int, fault: Fault, *, lasting: bool) -> None:
        """Let the n-th thing that the store is asked for from now on fail, and if lasting all after it."""
        ...

    def heal(self) -> bool:
        """Let nothing fail any more; return whether something has."""
        ...


Law: TypeAlias = "Callable[[Any], Coroutine[Any, Any, None]]"

LAWS: Final[list[Law]] = []
"""The laws that a stage is enough for."""

FAULT_LAWS: Final[list[Law]] = []
"""The laws that need a faulty stage."""


def _law(
    function: Callable[[Stage], Coroutine[Any, Any, None]],
) -> Callable[[Stage], Coroutine[Any, Any, None]]:
    LAWS.append(function)
    return function


def _fault_law(
    function: Callable[[FaultyStage], Coroutine[Any, Any, None]],
) -> Callable[[FaultyStage], Coroutine[Any, Any, None]]:
    FAULT_LAWS.append(function)
    return function


# -- what is stored in the laws ----------------------------------------------------------------------------------------


def _message(event_id: str, text: str = '{"amount":"9.90"}', **more: Any) -> Message:
    return Message(event=Payload("Pay", 1, text), event_id=event_id, **more)


def _entry(machine_id: str, seq: int, event_id: str | None = None, **more: Any) -> Entry:
    """Return a committed entry: the machine goes to the state S<seq>."""
    event_id = f"e-{seq}" if event_id is None else event_id
    usual = Entry(
        machine_id=machine_id,
        machine="Order",
        seq=seq,
        kind="committed",
        at_us=1_700_000_000_000_000 + seq,
        commits=seq,
        definition="d1",
        message=_message(event_id),
        source=(f"S{seq - 1}",) if seq > 1 else (),
        target=(f"S{seq}",),
        data=Payload("Order", 1, f'{{"paid":{seq}}}'),
        answer=Answer(kind="committed", new=(f"S{seq}",), commits=seq),
    )
    return replace(usual, **more)


def _full_entry() -> Entry:
    """Return an entry in which every field has a value of its own."""
    sent = _message(
        "m-1", causation_id="c", correlation_id="k", headers=(("h", "ü"),), sender="a", reply_to="b"
    )
    return Entry(
        machine_id="order-1",
        machine="Order",
        seq=1,
        kind="committed",
        at_us=1_700_000_000_000_001,
        incarnation=3,
        commits=1,
        status="quarantined",
        definition="d1",
        message=replace(sent, event_id="e-1", attempt=2),
        source=("A",),
        target=("B", "C"),
        data=Payload("Order", 2, '{"paid":1.50,"note":"☃"}'),
        answer=Answer(
            kind="committed",
            old=("A",),
            new=("B", "C"),
            reply=Payload("Receipt", 1, '{"number":7}'),
            reason="why",
            error=Failure("ValueError", "no", "charge"),
            commits=1,
        ),
        timers_set=(
            StoredTimer(machine_id="order-1", name="t", due_us=5, scope="NAMED", message=sent, failures=1),
        ),
        timers_ended=("u",),
        promises=(
            Pending(key=promise_key("order-1", 1, 0), kind="event", machine_id="order-2", message=sent),
            Pending(
                key=promise_key("order-1", 1, 1), kind="job", machine_id="order-1", message=sent, note="{}"
            ),
        ),
        settles=("x",),
        watches=("order-9",),
        unwatches=("order-8",),
    )


async def _store(journal: Journal, *entries: Entry, **more: Any) -> None:
    await journal.append(Batch(entries=entries, **more))


async def _refused(error: type[JournalError], journal: Journal, batch: Batch) -> None:
    try:
        await journal.append(batch)
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


async def _image(journal: Journal, machine_id: str) -> Image:
    stored = await journal.load(machine_id)
    assert stored is not None, f"{machine_id} is not stored"
    assert (stored.head.seq, stored.head.state) == (stored.image.seq, stored.image.state)
    return stored.image


def _folded(machine_id: str, entries: Sequence[Entry]) -> Image:
    image = Image(machine_id=machine_id)
    for entry in entries:
        image.apply(entry)
    return image


# -- the laws ----------------------------------------------------------------------------------------------------------


@_law
async def what_is_read_is_what_was_written(stage: Stage) -> None:
    """Every field of an entry comes back as it was, before and after the journal is opened again."""
    journal = await stage.open()
    entry = _full_entry()
    await _store(journal, entry)
    for _ in range(2):
        assert list(await journal.entries("order-1")) == [entry]
        assert await _image(journal, "order-1") == _folded("order-1", [entry])
        (timer,) = await journal.timers(6)
        assert timer == entry.timers_set[0]
        assert [placed.pending for placed in await journal.pending()] == list(entry.promises)
        recorded = await journal.lookup("order-1", "e-1")
        assert recorded is not None
        assert entry.message is not None
        assert (recorded.seq, recorded.event_type, recorded.event) == (1, "Pay", entry.message.event)
        assert (recorded.answer, recorded.fingerprint) == (entry.answer, fingerprint_of(entry.message.event))
        (head,) = await journal.machines()
        assert head[:5] == ("order-1", "Order", "quarantined", ("B", "C"), 1)
        await journal.close()
        journal = await stage.open()
    await journal.close()


@_law
async def what_is_not_stored_is_not_found(stage: Stage) -> None:
    journal = await stage.open()
    assert await journal.load("order-1") is None
    assert await journal.lookup("order-1", "e-1") is None
    assert not await journal.entries("order-1")
    assert not await journal.machines()
    assert not await journal.timers(10**18)
    assert not await journal.pending()
    assert not await journal.dead_letters()
    await journal.snapshot("order-1")
    assert await journal.forget("order-1", 5) == 0
    assert await journal.load("order-1") is None
    await journal.close()


@_law
async def a_batch_is_stored_as_a_whole_or_not_at_all(stage: Stage) -> None:
    journal = await stage.open()
    await _store(journal, _entry("a", 1), _entry("b", 1), _entry("a", 2))
    timer = StoredTimer(machine_id="a", name="t", due_us=1, scope="NAMED", message=_message("t"))
    promise = Pending(key="a/3/0", kind="event", machine_id="b", message=_message("p"))
    good = _entry("a", 3, timers_set=(timer,), promises=(promise,))
    dead = DeadMessage(machine_id="x", message=_message("d"), reason="gone", at_us=1)
    for bad in (_entry("b", 1), _entry("b", 4), _entry("b", 2, "e-1"), _entry("c", 2)):
        for entries in ((good, bad), (bad, good)):
            await _refused(NotStored, journal, Batch(entries=entries, dead=(dead,)))
    assert (await _image(journal, "a")).seq == 2
    assert (await _image(journal, "b")).seq == 1
    assert await journal.load("c") is None
    assert not await journal.timers(10)
    assert not await journal.pending()
    assert not await journal.dead_letters()
    await _store(journal, good, dead=(dead,))
    assert (await _image(journal, "a")).seq == 3
    await journal.close()


@_law
async def entries_of_a_machine_follow_each_other_without_gaps(stage: Stage) -> None:
    journal = await stage.open()
    await _refused(Fenced, journal, Batch(entries=(_entry("a", 2),)))
    await _store(journal, _entry("a", 1))
    for seq in (0, 1, 3):
        await _refused(Fenced, journal, Batch(entries=(_entry("a", seq, "other"),)))
    await _store(journal, _entry("a", 2))
    assert [entry.seq for entry in await journal.entries("a")] == [1, 2]
    assert [entry.seq for entry in await journal.entries("a", after_seq=1)] == [2]
    assert [entry.seq for entry in await journal.entries("a", limit=1)] == [1]
    await journal.close()


@_law
async def the_rows_of_all_machines_are_listed_by_machine_and_number(stage: Stage) -> None:
    """In pages, trimmed ones too; each fits the one before of its machine."""
    journal = await stage.open()
    for seq in range(1, 6):
        for machine_id in ("b", "a", "c\0", "c"):
            await _store(journal, _entry(machine_id, seq))
    await journal.snapshot("b", keep=2)
    everything = list(await journal.rows())
    assert [(row.machine_id, row.seq) for row in everything] == [
        (machine_id, seq) for machine_id in ("a", "b", "c", "c\0") for seq in range(1, 6)
    ]
    assert [row.seq for row in everything if row.body is None] == [1, 2, 3]
    last = FIRST
    for row in everything:
        assert chained(row, FIRST if row.seq == 1 else last) == row.checksum
        last = row.checksum
    paged = list(await journal.rows(limit=3))
    while page := await journal.rows((paged[-1].machine_id, paged[-1].seq), limit=3):
        assert len(page) <= 3
        paged += page
    assert paged == everything
    await journal.close()


@_law
async def snapshots_are_listed_by_machine(stage: Stage) -> None:
    journal = await stage.open()
    for machine_id in ("b", "a", "c"):
        await _store(journal, _entry(machine_id, 1))
    for machine_id in ("b", "c"):
        await journal.snapshot(machine_id)
    first, second = await journal.snapshots()
    assert [first.machine_id, second.machine_id] == ["b", "c"]
    assert decode_image("b", 1, first.text) == await _image(journal, "b")
    (row,) = await journal.rows(("a", 1), limit=1)
    assert first.checksum == checksum_of_image(first.text, row.checksum)
    assert list(await journal.snapshots("b")) == [second]
    assert list(await journal.snapshots(limit=1)) == [first]
    await journal.close()


@_law
async def part_of_another_journal_is_stored_as_it_was_there(stage: Stage) -> None:
    """All of it or nothing; it goes on from there."""
    source = MemoryJournal()
    await source.open()
    timer = StoredTimer(machine_id="a\0", name="t", due_us=1, scope="NAMED", message=_message("t"))
    promise = Pending(key="a/1/0", kind="event", machine_id="b", message=_message("p"))
    letters = [DeadMessage(machine_id="x", message=_message(f"d{n}"), reason="gone", at_us=n) for n in (1, 2)]
    for seq in range(1, 4):
        await _store(source, _entry("a\0", seq), _entry("b", seq))
    last = _entry("a\0", 4, timers_set=(timer,), promises=(promise,))
    await _store(source, _entry("b", 4), last, dead=tuple(letters))
    await source.snapshot("b", keep=1)
    part = Part(
        *(await source.machines(), await source.rows(), await source.snapshots(), await source.timers(2)),
        *([placed.pending for placed in await source.pending()], await source.dead_letters()),
    )
    journal = await stage.open()
    await journal.restore(part)
    for _ in range(2):
        assert list(await journal.machines()) == list(part.heads)
        assert list(await journal.rows()) == list(part.rows)
        assert list(await journal.snapshots()) == list(part.snapshots)
        assert list(await journal.timers(2)) == [timer]
        assert [placed.pending for placed in await journal.pending()] == [promise]
        assert [replace(letter, place=0) for letter in await journal.dead_letters()] == letters
        assert await journal.load("b") == await source.load("b")
        assert await journal.lookup("b", "e-1") == await source.lookup("b", "e-1")
        try:
            await journal.restore(
                part._replace(heads=[part.heads[0]._replace(machine_id="new"), part.heads[1]])
            )
        except NotStored:
            assert await journal.load("new") is None
        else:
            raise AssertionError("what is there already was stored once more")
        await journal.close()
        journal = await stage.open()
    await _store(journal, _entry("a\0", 5))
    await _refused(EventIdUsed, journal, Batch(entries=(_entry("b", 5, "e-1"),)))
    await journal.close()


@_law
async def an_event_id_is_used_up_once_per_machine(stage: Stage) -> None:
    journal = await stage.open()
    await _store(journal, _entry("a", 1, "pay"), _entry("b", 1, "pay"))
    await _refused(EventIdUsed, journal, Batch(entries=(_entry("a", 2, "pay"),)))
    await _refused(EventIdUsed, journal, Batch(entries=(_entry("a", 2, "new"), _entry("a", 3, "new"))))
    await _store(
        journal, _entry("a", 2, "pay", kind="failed", answer=None)
    )  # records no outcome: may come again
    assert await journal.lookup("a", "new") is None
    recorded = await journal.lookup("a", "pay")
    assert recorded is not None
    assert recorded.seq == 1
    await journal.close()
    journal = await stage.open()
    await _refused(EventIdUsed, journal, Batch(entries=(_entry("a", 3, "pay"),)))
    await journal.close()


@_law
async def what_is_refused_takes_nothing_else_with_it(stage: Stage) -> None:
    """Batches that are handed in at once may be stored together; each is judged by itself."""
    journal = await stage.open()
    await _store(journal, _entry("a", 1))
    batches = [Batch(entries=(_entry(f"m-{n}", 1),)) for n in range(20)]
    batches[5] = Batch(entries=(_entry("a", 7),))
    batches[11] = Batch(entries=(_entry("a", 2, "e-1"),))
    answers = await asyncio.gather(*[journal.append(batch) for batch in batches], return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        {5: Fenced, 11: EventIdUsed}.get(n, type(None)) for n in range(20)
    ]
    assert len(await journal.machines(limit=100)) == 19
    await journal.close()


@_law
async def batches_are_stored_in_the_order_of_the_calls(stage: Stage) -> None:
    journal = await stage.open()
    futures = [journal.append(Batch(entries=(_entry("a", seq),))) for seq in range(1, 301)]
    await asyncio.gather(*futures)
    assert [entry.seq for entry in await journal.entries("a")] == list(range(1, 301))
    await journal.close()


@_law
async def a_closed_journal_has_stored_what_was_handed_in(stage: Stage) -> None:
    journal = await stage.open()
    futures = [journal.append(Batch(entries=(_entry("a", seq),))) for seq in range(1, 51)]
    await journal.close()
    await asyncio.gather(*futures)
    await journal.close()
    await _refused(JournalClosed, journal, Batch(entries=(_entry("a", 51),)))
    journal = await stage.open()
    assert (await _image(journal, "a")).seq == 50
    await journal.close()


@_law
async def to_cancel_the_answer_does_not_cancel_the_batch(stage: Stage) -> None:
    journal = await stage.open()
    journal.append(Batch(entries=(_entry("a", 1),))).cancel()
    for seq in (2, 3):
        await journal.append(Batch(entries=(_entry("a", seq),)))
    assert (await _image(journal, "a")).seq == 3
    await journal.close()


@_law
async def what_was_acknowledged_is_there_after_a_crash(stage: Stage) -> None:
    journal = await stage.open()
    await _store(journal, _entry("a", 1))
    await _store(journal, _entry("a", 2))
    await stage.crash(journal)
    journal = await stage.open()
    assert (await _image(journal, "a")).seq == 2
    await _store(journal, _entry("a", 3))
    await journal.close()


@_law
async def whether_a_batch_is_stored_is_told_by_what_is_in_it(stage: Stage) -> None:
    """The number of an entry alone does not tell: somebody else may have written one with it."""
    journal = await stage.open()
    first = _entry("a", 1)
    letter = Pending(key=inbox_key("a", "x"), kind="event", machine_id="a", message=_message("x"))
    dead = DeadMessage(machine_id="x", message=_message("d"), reason="gone", at_us=1)
    await _store(journal, first, accepted=(letter,), dead=(dead,))
    for batch, is_stored in (
        (Batch(entries=(first,)), True),
        (Batch(entries=(replace(first, data=Payload("Order", 1, '{"paid":2}')),)), False),
        (Batch(entries=(replace(first, answer=None),)), False),
        (Batch(entries=(first, _entry("a", 2))), False),
        (Batch(entries=(_entry("b", 1),)), False),
        (Batch(accepted=(letter,)), True),
        (Batch(accepted=(replace(letter, key="other"),)), False),
        (Batch(settled=(letter.key,)), False),
        (Batch(settled=("other",)), True),
        (Batch(dead=(dead,)), True),
        (Batch(dead=(replace(dead, at_us=2),)), False),
    ):
        assert await journal.settle(batch) == is_stored, batch
    await journal.close()


@_law
async def who_was_taken_over_cannot_write(stage: Stage) -> None:
    journal = await stage.open()
    first = journal.epoch
    assert first >= 1
    await _store(journal, _entry("a", 1))
    await stage.usurp()
    for batch in (
        Batch(entries=(_entry("a", 2),)),
        Batch(entries=(_entry("b", 1),)),
        Batch(accepted=(Pending(key="k", kind="event", machine_id="a", message=_message("m")),)),
        Batch(dead=(DeadMessage(machine_id="x", message=_message("d"), reason="gone", at_us=1),)),
    ):
        await _refused(Fenced, journal, batch)
    await journal.close()
    journal = await stage.open()
    assert journal.epoch > first + 1
    assert (await _image(journal, "a")).seq == 1
    assert await journal.load("b") is None
    assert not await journal.pending()
    assert not await journal.dead_letters()
    await _store(journal, _entry("a", 2))
    await journal.close()


@_law
async def a_snapshot_changes_nothing_that_is_read(stage: Stage) -> None:
    journal = await stage.open()
    history = [
        _entry("a", seq, timers_set=(_timer("a", f"t{seq % 3}", seq),), watches=(f"w{seq % 4}",))
        for seq in range(1, 31)
    ]
    await _store(journal, *history[:20])
    await journal.snapshot("a")
    assert await _image(journal, "a") == _folded("a", history[:20])
    await _store(journal, *history[20:])
    assert await _image(journal, "a") == _folded("a", history)
    assert list(await journal.entries("a")) == history
    await journal.close()
    journal = await stage.open()
    assert await _image(journal, "a") == _folded("a", history)
    await journal.close()


@_law
async def an_image_that_is_handed_in_is_where_loading_begins(stage: Stage) -> None:
    journal = await stage.open()
    history = [_entry("a", seq, watches=(f"w{seq}",)) for seq in range(1, 31)]
    image = _folded("a", history[:20])
    await _store(journal, *history[:19])
    for seq in (0, 19, 21):
        wrong = replace(image, seq=seq)
        await _refused(NotStored, journal, Batch(entries=(history[19],), images=(wrong,)))
    await _refused(NotStored, journal, Batch(images=(image,)))
    await _refused(NotStored, journal, Batch(entries=(_entry("b", 1),), images=(image,)))
    assert (await _image(journal, "a")).seq == 19
    shown = replace(image, watches=["as the image says"])
    await _store(journal, history[19], images=(shown,))
    assert (await _image(journal, "a")).watches == ["as the image says"]
    await _store(journal, *history[20:], images=(_folded("a", history),))
    await journal.close()
    journal = await stage.open()
    assert await _image(journal, "a") == _folded("a", history)
    await journal.close()


@_law
async def trimmed_entries_leave_ids_and_answers(stage: Stage) -> None:
    journal = await stage.open()
    history = [_entry("a", seq) for seq in range(1, 31)]
    await _store(journal, *history)
    await journal.snapshot("a", keep=5)
    assert [entry.seq for entry in await journal.entries("a")] == [26, 27, 28, 29, 30]
    assert await _image(journal, "a") == _folded("a", history)
    for seq, event in ((3, None), (28, _message("e-28").event)):
        recorded = await journal.lookup("a", f"e-{seq}")
        assert recorded is not None
        assert (recorded.seq, recorded.event, recorded.answer) == (seq, event, history[seq - 1].answer)
        assert recorded.fingerprint == fingerprint_of(_message("e-3").event)
    await _refused(EventIdUsed, journal, Batch(entries=(_entry("a", 31, "e-3"),)))
    await _store(journal, _entry("a", 31))
    await journal.snapshot("a", keep=0)
    assert not await journal.entries("a")
    assert (await _image(journal, "a")).seq == 31
    await journal.close()


@_law
async def what_is_forgotten_may_come_again(stage: Stage) -> None:
    journal = await stage.open()
    await _store(journal, *[_entry("a", seq) for seq in range(1, 31)])
    assert await journal.forget("a", 10) == 0  # only what was trimmed is forgotten
    await journal.snapshot("a", keep=5)
    assert await journal.forget("a", 10) == 10
    assert await journal.forget("a", 10) == 0
    assert await journal.lookup("a", "e-10") is None
    assert await journal.lookup("a", "e-11") is not None
    assert (await _image(journal, "a")).seq == 30
    await _store(journal, _entry("a", 31, "e-10"))
    assert await journal.forget("a", 1_000) == 15
    await journal.close()
    journal = await stage.open()
    assert (await _image(journal, "a")).seq == 31
    assert [entry.seq for entry in await journal.entries("a")] == [26, 27, 28, 29, 30, 31]
    for seq in (26, 30):
        assert await journal.lookup("a", f"e-{seq}") is not None
    await _refused(EventIdUsed, journal, Batch(entries=(_entry("a", 32, "e-10"),)))
    await journal.close()


def _timer(machine_id: str, name: str, due_us: int) -> StoredTimer:
    return StoredTimer(
        machine_id=machine_id, name=name, due_us=due_us, scope="NAMED", message=_message(f"{name}-{due_us}")
    )


@_law
async def timers_are_listed_by_deadline_until_they_end(stage: Stage) -> None:
    journal = await stage.open()
    dues = {("a", "t"): 30, ("a", "u"): 10, ("b", "t"): 20, ("c", "t"): 20, ("c", "u"): 99}
    for machine_id in "abc":
        timers = tuple(_timer(*key, due) for key, due in dues.items() if key[0] == machine_id)
        await _store(journal, _entry(machine_id, 1, timers_set=timers))
    by_deadline = [(10, "a", "u"), (20, "b", "t"), (20, "c", "t"), (30, "a", "t"), (99, "c", "u")]
    assert await _timers(journal, 1_000) == by_deadline
    assert await _timers(journal, 30) == by_deadline[:3]
    assert await _timers(journal, 1_000, (20, "b", "t")) == by_deadline[2:]
    assert await _timers(journal, 1_000, None, 2) == by_deadline[:2]
    await _store(
        journal,
        _entry("a", 2, timers_ended=("u",), timers_set=(_timer("a", "t", 15),)),
        _entry("b", 2, timers_ended=("t", "never")),
    )
    left = [(15, "a", "t"), (20, "c", "t"), (99, "c", "u")]
    assert await _timers(journal, 1_000) == left
    # In one batch, too, the last word counts.
    await _store(
        journal,
        _entry("a", 3, timers_set=(_timer("a", "v", 1),)),
        _entry("a", 4, timers_ended=("v",), timers_set=(_timer("a", "w", 2),)),
        _entry("a", 5, timers_ended=("w",), timers_set=(_timer("a", "w", 3),)),
    )
    assert await _timers(journal, 1_000) == [(3, "a", "w"), *left]
    assert sorted((await _image(journal, "a")).timers) == ["t", "w"]
    await journal.close()


async def _timers(
    journal: Journal, before_us: int, after: tuple[int, str, str] | None = None, limit: int = 1_000
) -> list[tuple[int, str, str]]:
    found = await journal.timers(before_us, after, limit)
    return [(timer.due_us, timer.machine_id, timer.name) for timer in found]


@_law
async def what_is_promised_is_pending_until_it_is_settled(stage: Stage) -> None:
    journal = await stage.open()
    assert await journal.last_pending() == 0

    def promise(seq: int, place: int, to: str) -> Pending:
        return Pending(
            key=promise_key("a", seq, place),
            kind="event",
            machine_id=to,
            message=_message(f"m-{seq}-{place}"),
        )

    await _store(
        journal, _entry("a", 1, promises=(promise(1, 0, "z"), promise(1, 1, "b"), promise(1, 2, "b")))
    )
    await _store(journal, _entry("a", 2, promises=(promise(2, 0, "b"),)))
    assert await _pending(journal) == ["a/1/0", "a/1/1", "a/1/2", "a/2/0"]
    await _store(journal, _entry("b", 1, "m-1-1", settles=("a/1/1",)), settled=("a/1/0", "never"))
    await journal.close()
    journal = await stage.open()
    assert await _pending(journal) == ["a/1/2", "a/2/0"]
    first, second = await journal.pending()
    assert first.place < second.place
    assert [placed.pending.key for placed in await journal.pending(after=first.place)] == ["a/2/0"]
    assert [placed.pending.key for placed in await journal.pending(limit=1)] == ["a/1/2"]
    assert await journal.last_pending() == second.place
    for machine_id, keys in (("b", ["a/1/2", "a/2/0"]), ("z", []), ("a", [])):
        found = await journal.pending(machine_id=machine_id)
        assert [placed.pending.key for placed in found] == keys
    assert await journal.pending(first.place, 1, machine_id="b") == [second]
    # What a batch promises and settles itself is done.
    await _store(journal, _entry("a", 3, promises=(promise(3, 0, "b"),)), _entry("b", 2, settles=("a/3/0",)))
    assert await _pending(journal) == ["a/1/2", "a/2/0"]
    await journal.close()


async def _pending(journal: Journal) -> list[str]:
    return [placed.pending.key for placed in await journal.pending()]


@_law
async def an_event_id_is_accepted_once_by_the_durable_inbox(stage: Stage) -> None:
    journal = await stage.open()

    def letter(event_id: str) -> Pending:
        return Pending(key=inbox_key("a", event_id), kind="event", machine_id="a", message=_message(event_id))

    await _store(journal, _entry("a", 1, "old"))
    await _store(journal, accepted=(letter("x"), letter("y")))
    await _refused(EventIdUsed, journal, Batch(accepted=(letter("z"), letter("x"))))
    await _refused(EventIdUsed, journal, Batch(accepted=(letter("z"), letter("old"))))
    await _refused(EventIdUsed, journal, Batch(accepted=(letter("z"), letter("z"))))
    assert await _pending(journal) == ["a//x", "a//y"]
    await _store(journal, _entry("a", 2, "x", settles=("a//x",)))
    await _refused(EventIdUsed, journal, Batch(accepted=(letter("x"),)))
    assert await _pending(journal) == ["a//y"]
    await journal.close()


@_law
async def dead_letters_are_kept_until_they_are_dropped(stage: Stage) -> None:
    journal = await stage.open()
    letters = [
        DeadMessage(machine_id=f"m-{n}", message=_message(f"e-{n}", sender="s"), reason=f"wörn {n}", at_us=n)
        for n in range(5)
    ]
    await _store(journal, _entry("a", 1), dead=tuple(letters[:3]))
    await _store(journal, dead=tuple(letters[3:]))
    await journal.close()
    journal = await stage.open()
    found = await journal.dead_letters()
    assert [replace(letter, place=0) for letter in found] == letters
    places = [letter.place for letter in found]
    assert places == sorted(set(places))
    assert [letter.place for letter in await journal.dead_letters(places[1], 2)] == places[2:4]
    assert await journal.drop_dead_letters([places[0], places[3], places[0], 10**9]) == 2
    assert [letter.place for letter in await journal.dead_letters()] == [places[1], places[2], places[4]]
    assert await journal.drop_dead_letters([]) == 0
    await journal.close()


@_law
async def machines_are_listed_by_class_status_and_state(stage: Stage) -> None:
    journal = await stage.open()
    for n in range(7):
        await _store(
            journal,
            _entry(
                f"m-{n}",
                1,
                machine="Order" if n % 2 else "Payment",
                target=("S1",) if n < 5 else ("S1", "S2"),
                status="stopped" if n == 3 else "alive",
            ),
        )

    async def ids(**which: Any) -> list[int]:
        return [int(head.machine_id[2:]) for head in await journal.machines(**which)]

    assert await ids() == [0, 1, 2, 3, 4, 5, 6]
    assert await ids(machine="Order") == [1, 3, 5]
    assert await ids(state="S2") == [5, 6]
    assert await ids(state="S") == []
    assert await ids(state="S1", machine="Order", status="alive") == [1, 5]
    assert await ids(status="stopped") == [3]
    assert await ids(after="m-3", limit=2) == [4, 5]
    assert await ids(after="m-4", machine="Payment") == [6]
    await _store(journal, _entry("m-1", 2, target=("S2",)))
    assert await ids(state="S2") == [1, 5, 6]
    await journal.close()


@_law
async def what_waits_for_a_change_of_state_keeps_its_order(stage: Stage) -> None:
    journal = await stage.open()

    def postponed(seq: int, event_id: str) -> Entry:
        return _entry("a", seq, event_id, kind="postponed", answer=None, data=None)

    await _store(journal, _entry("a", 1), *[postponed(2 + n, f"p-{n}") for n in range(4)])
    await _store(
        journal, _entry("a", 6, "p-1"), postponed(7, "p-0"), _entry("a", 8, "p-3", kind="vetoed", answer=None)
    )
    await journal.snapshot("a")
    image = await _image(journal, "a")
    assert [message.event_id for message in image.postponed] == ["p-0", "p-2"]
    assert image.data == Payload("Order", 1, '{"paid":8}')
    await _store(journal, postponed(9, "p-9"))
    assert [message.event_id for message in (await _image(journal, "a")).postponed] == ["p-0", "p-2", "p-9"]
    await journal.close()


@_law
async def text_of_every_kind_comes_back_as_it_was(stage: Stage) -> None:
    journal = await stage.open()
    texts = [
        '{"n":1.0,"m":1e400,"k":123456789012345678901234567890}',
        '{"quoted":"\\"\\\\\\u0000\\n"}',
        '{"ä":"☃ 😀 \u202e \u2028"}',
        "[" + "1," * 200_000 + "1]",
        "",
    ]
    longest = "x" * 200
    for seq, text in enumerate(texts, start=1):
        event_id = f"{seq} ü{' ' * 3}'\"%_;--"
        entry = _entry(
            longest, seq, event_id, message=_message(event_id, text), data=Payload("Ördér", 1, text)
        )
        await _store(journal, entry)
        recorded = await journal.lookup(longest, event_id)
        assert recorded is not None
        assert recorded.event == Payload("Pay", 1, text)
    await journal.close()
    journal = await stage.open()
    found = await journal.entries(longest)
    assert [entry.message.event.json for entry in found if entry.message is not None] == texts
    assert [entry.data.json for entry in found if entry.data is not None] == texts
    await journal.close()


@_law
async def characters_that_nobody_prints_come_back_as_they_were(stage: Stage) -> None:
    journal = await stage.open()
    texts = ["\0", "\1", "a\0b", "\1\1", "\0\1\0", "\1\2", "\2", "\1\0\2", "\x7f", "z"]
    letters = [
        DeadMessage(machine_id=f"m{text}", message=_message(f"d{text}"), reason=text, at_us=1)
        for text in texts
    ]
    promises = [
        Pending(key=f"k{text}", kind="event", machine_id=f"m{text}", message=_message(f"p{text}"))
        for text in texts
    ]
    entries = [
        _entry(
            f"m{text}",
            1,
            f"e{text}",
            target=(f"S{text}",),
            timers_set=(_timer(f"m{text}", f"t{text}", 1),),
            promises=(promise,),
        )
        for text, promise in zip(texts, promises, strict=True)
    ]
    await _store(journal, *entries, dead=tuple(letters))
    assert [head.machine_id for head in await journal.machines()] == sorted(f"m{text}" for text in texts)
    assert [replace(letter, place=0) for letter in await journal.dead_letters()] == letters
    assert [placed.pending for placed in await journal.pending()] == promises
    assert await _timers(journal, 9) == sorted((1, f"m{text}", f"t{text}") for text in texts)
    for text in texts:
        assert await journal.lookup(f"m{text}", f"e{text}") is not None
        assert (await _image(journal, f"m{text}")).state == (f"S{text}",)
        assert [head.machine_id for head in await journal.machines(state=f"S{text}")] == [f"m{text}"]
    await _store(journal, _entry("z", 1, settles=tuple(promise.key for promise in promises)))
    assert not await journal.pending()
    await journal.close()


@_law
async def what_is_no_connection_carries_no_batch(stage: Stage) -> None:
    """A journal that cannot append inside a transaction of the caller's says so; one that can, by what it cannot."""
    journal = await stage.open()
    try:
        await journal.append_in(object(), Batch(entries=(_entry("a", 1),)))
    except Unsupported:
        pass
    else:
        raise AssertionError("Unsupported was not raised")
    assert await journal.load("a") is None
    await journal.close()


@_law
async def ids_that_look_alike_are_not_the_same(stage: Stage) -> None:
    journal = await stage.open()
    ids = ["a", "A", "a.", "a~", "1", "01", "1.0", "a:b", "a-b", "a_b", "null"]
    for machine_id in ids:
        await _store(journal, _entry(machine_id, 1))
    assert [head.machine_id for head in await journal.machines()] == sorted(ids)
    for event_id in ("x", "X", "1", "01", "é", "e\u0301", "x "):
        seq = (await _image(journal, "a")).seq + 1
        await _store(journal, _entry("a", seq, event_id))
    await journal.close()


@_law
async def what_is_no_text_is_refused_and_nothing_is_stored(stage: Stage) -> None:
    journal = await stage.open()
    await _refused(
        NotStored, journal, Batch(entries=(_entry("a", 1), _entry("b", 1, data=Payload("O", 1, "\ud800"))))
    )
    assert not await journal.machines()
    await _store(journal, _entry("a", 1))
    await journal.close()


@_law
async def a_long_life_is_loaded_as_it_was_lived(stage: Stage) -> None:
    journal = await stage.open()
    history = [_entry("a", seq, data=None if seq % 7 else Payload("O", 1, str(seq))) for seq in range(1, 451)]
    for begin in range(0, 450, 30):
        images = (_folded("a", history[: begin + 30]),) if begin % 90 == 0 else ()
        await _store(journal, *history[begin : begin + 30], images=images)
    await journal.close()
    journal = await stage.open()
    assert await _image(journal, "a") == _folded("a", history)
    await journal.close()


# -- and when the store fails ------------------------------------------------------------------------------------------

_BATCHES: Final = (
    Batch(entries=(_entry("a", 1),)),
    Batch(entries=(_entry("a", 2), _entry("b", 1, timers_set=(_timer("b", "t", 1),)))),
    Batch(accepted=(Pending(key="k", kind="event", machine_id="a", message=_message("m")),)),
    Batch(entries=(_entry("b", 2, timers_ended=("t",), settles=("k",)),)),
)


@_fault_law
async def every_answer_is_true_wherever_the_store_fails_once(stage: FaultyStage) -> None:
    await _every_answer_is_true(stage, "error", lasting=False)


@_fault_law
async def every_answer_is_true_wherever_the_store_fails_for_good(stage: FaultyStage) -> None:
    await _every_answer_is_true(stage, "error", lasting=True)


@_fault_law
async def every_answer_is_true_wherever_the_room_ends(stage: FaultyStage) -> None:
    await _every_answer_is_true(stage, "full", lasting=True)


async def _every_answer_is_true(stage: FaultyStage, fault: Fault, *, lasting: bool) -> None:
    """Fail the n-th thing, for n = 1, 2 and so on until nothing fails any more."""
    nth, fired = 0, True
    answers: list[str] = []
    while fired:
        nth += 1
        journal = await stage.open()
        stage.fail(nth, fault, lasting=lasting)
        answers = [await _answer(journal, _of_life(batch, nth)) for batch in _BATCHES]
        fired = stage.heal()
        settled = [
            await journal.settle(_of_life(batch, nth)) if answer == "unknown" else answer == "stored"
            for batch, answer in zip(_BATCHES, answers, strict=True)
        ]
        await stage.crash(journal)
        journal = await stage.open()
        for machine_id, stored in (("a", [1, 1, 0, 0]), ("b", [0, 1, 0, 1])):
            expected = sum(n for n, is_stored in zip(stored, settled, strict=True) if is_stored)
            loaded = await journal.load(f"{machine_id}-{nth}")
            found = 0 if loaded is None else loaded.image.seq
            assert found == expected, f"{fault} at {nth}: {answers}, {settled}: {machine_id} is at {found}"
        is_pending = any(placed.pending.key == f"k-{nth}" for placed in await journal.pending())
        assert is_pending == (settled[2] and not settled[3]), f"{fault} at {nth}: {answers}, {settled}"
        await journal.close()
    assert nth > len(_BATCHES)
    assert answers == ["stored"] * 4


def _of_life(batch: Batch, life: int) -> Batch:
    """Return the batch for machines of its own."""

    def own(entry: Entry) -> Entry:
        machine_id = f"{entry.machine_id}-{life}"
        timers = tuple(replace(timer, machine_id=machine_id) for timer in entry.timers_set)
        settles = tuple(f"{key}-{life}" for key in entry.settles)
        return replace(entry, machine_id=machine_id, timers_set=timers, settles=settles)

    return Batch(
        entries=tuple(own(entry) for entry in batch.entries),
        accepted=tuple(
            replace(pending, key=f"{pending.key}-{life}", machine_id=f"{pending.machine_id}-{life}")
            for pending in batch.accepted
        ),
    )


async def _answer(journal: Journal, batch: Batch) -> str:
    try:
        await journal.append(batch)
    except OutcomeUnknown:
        return "unknown"
    except NotStored:
        return "not stored"
    return "stored"


@_fault_law
async def without_room_reading_goes_on_and_with_room_writing_does(stage: FaultyStage) -> None:
    journal = await stage.open()
    await _store(journal, _entry("a", 1))
    stage.fail(1, "full", lasting=True)
    for _ in range(3):
        await _refused(JournalFull, journal, Batch(entries=(_entry("a", 2),)))
        assert (await _image(journal, "a")).seq == 1
        assert await journal.lookup("a", "e-1") is not None
    assert stage.heal()
    await _store(journal, _entry("a", 2))
    assert (await _image(journal, "a")).seq == 2
    await journal.close()
