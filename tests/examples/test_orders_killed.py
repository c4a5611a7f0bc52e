"""The orders example is killed and started again: the journal ends as that of a run that nobody disturbed."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from actorfsm.journal.sqlite import SQLiteJournal
from examples.orders.log import SHIPPED

if TYPE_CHECKING:
    from actorfsm.journal.entry import Entry, Message, Pending

ROOT: Final = Path(__file__).parents[2]
REAL: Final = ROOT / "../shared/data/olist_events.jsonl.gz"
pytestmark = pytest.mark.timeout(240)  # seconds of a busy computer

UNIX: Final = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is of POSIX")


def command(log: Path, journal: Path) -> list[str]:
    return [sys.executable, "-m", "examples.orders", str(log), "--journal", str(journal), "--json"]


def run_to_the_end(log: Path, journal: Path) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command(log, journal), cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done


def run_and_send(number: int, log: Path, journal: Path, *, once_it_has: int) -> int:
    """Run until the journal has grown by so many bytes, send a signal, and return the exit status."""

    def size() -> int:
        return sum(path.stat().st_size for path in (journal, wal) if path.exists())

    wal = journal.with_name(journal.name + "-wal")
    before = size()
    with subprocess.Popen(
        command(log, journal), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        while running.poll() is None and size() < before + once_it_has:
            time.sleep(0.002)
        if running.poll() is None:
            os.kill(running.pid, number)
        running.communicate()
    return running.returncode


def entries_of(journal: Path) -> dict[str, list[Entry]]:
    """Return what a journal has of each machine, but for when it was stored and what follows from that."""

    async def read() -> dict[str, list[Entry]]:
        opened = SQLiteJournal(journal, read_only=True)
        await opened.open()
        try:
            found: dict[str, list[Entry]] = {}
            after = ""
            while heads := await opened.machines(after=after):
                after = heads[-1].machine_id
                for head in heads:
                    entries = await opened.entries(head.machine_id)
                    assert len(entries) == head.seq
                    found[head.machine_id] = [_timeless(entry) for entry in entries]
            return found
        finally:
            await opened.close()

    return asyncio.run(read())


def _timeless(entry: Entry) -> Entry:
    def message(what: Message | None) -> Any:
        return what and replace(
            what, event_id=_from_the_log(what.event_id), causation_id=_from_the_log(what.causation_id)
        )

    def promise(what: Pending) -> Pending:
        return replace(what, key="", message=message(what.message))

    of_the_log = entry.machine == "Order"
    return replace(
        entry,
        at_us=0,
        message=message(entry.message),
        promises=tuple(promise(what) for what in entry.promises),
        # After a kill it is counted how often an event was begun, which a quiet run does not.
        settles=tuple("" for key in entry.settles if "/begun/" not in key),
        timers_set=tuple(
            replace(timer, message=message(timer.message), due_us=timer.due_us if of_the_log else 0)
            for timer in entry.timers_set
        ),
    )


def _from_the_log(event_id: str | None) -> str:
    """Return an event id that comes from the log. Others are numbered by the run in which they were made."""
    return event_id if event_id is not None and event_id.startswith("line-") else ""


def lines_of(log: Path, most: int, to: Path) -> Path:
    with gzip.open(log) as lines:
        to.write_bytes(b"".join(islice(lines, most)))
    return to


def ends_like_a_quiet_run(log: Path, folder: Path, seed: int, *, kills: int) -> bool:
    random = Random(seed)
    run_to_the_end(log, folder / "quiet.db")
    statuses = [
        run_and_send(
            signal.SIGKILL, log, folder / "killed.db", once_it_has=random.randrange(1_000, 1_000_000)
        )
        for _ in range(kills)
    ]
    assert statuses.count(-signal.SIGKILL) > kills // 2
    run_to_the_end(log, folder / "killed.db")
    return entries_of(folder / "killed.db") == entries_of(folder / "quiet.db")


@pytest.mark.many
@UNIX
@pytest.mark.rule("C23", "C24")
def test_a_shop_that_is_killed_again_and_again_ends_with_the_entries_of_one_that_never_was(
    tmp_path: Path,
) -> None:
    log = lines_of(SHIPPED, 1_200, tmp_path / "log.jsonl")
    assert ends_like_a_quiet_run(log, tmp_path, seed=4, kills=4)


@UNIX
@pytest.mark.slow
@pytest.mark.rule("C23", "C24")
@pytest.mark.skipif(not REAL.exists(), reason=f"the real log is not here: {REAL.name}")
def test_the_same_with_the_beginning_of_a_real_log(tmp_path: Path) -> None:
    log = lines_of(REAL, 4_000, tmp_path / "log.jsonl")
    assert ends_like_a_quiet_run(log, tmp_path, seed=5, kills=5)


@pytest.mark.many
@UNIX
@pytest.mark.rule("C19", "C23")
def test_ctrl_c_stops_the_shop_in_order_and_the_next_run_goes_on(tmp_path: Path) -> None:
    log, journal = lines_of(SHIPPED, 1_000, tmp_path / "log.jsonl"), tmp_path / "orders.db"
    assert run_and_send(signal.SIGINT, log, journal, once_it_has=200_000) == 130
    rest = json.loads(run_to_the_end(log, journal).stdout)
    assert rest["known"] > 0
    assert rest["known"] + rest["events"] == 1_000
    run_to_the_end(log, tmp_path / "quiet.db")
    assert entries_of(journal) == entries_of(tmp_path / "quiet.db")
