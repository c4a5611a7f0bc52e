"""P3 in the size of a build: as many kills as fit in its time, some losses of power, and each planted bug found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actorfsm import ActorSystem, SnapshotPolicy
from actorfsm.testing.loop import simulate
from tests.campaigns import ledger
from tests.campaigns.disk import shim
from tests.campaigns.disk.power import Did, Disk, Line
from tests.campaigns.p3.__main__ import report
from tests.campaigns.p3.campaign import POINTS, Campaign
from tests.campaigns.p3.machines import Ledger, Pay, Till
from tests.campaigns.p3.oracle import Notes, judge
from tests.campaigns.p3.plants import NEEDS_POWER_LOSS, PLANTS

SECONDS = 36 * ledger.multiplier()
LOSSES = 200 * ledger.multiplier()
KILLS_FOR_A_PLANT = 400
LOSSES_FOR_A_PLANT = 200


@pytest.mark.slow
@pytest.mark.timeout(0 if ledger.multiplier() > 1 else 240)
@pytest.mark.rule("C23")
@pytest.mark.rule("C24")
def test_no_kill_and_no_loss_of_power_loses_or_repeats_anything() -> None:
    shim.needed()
    with Campaign(1) as campaign:
        result = campaign.run(2_000 * ledger.multiplier(), SECONDS)
        campaign.lose_power(LOSSES)
    report(result, 1)
    assert result.violations == []
    assert result.share_in_flight >= 0.3, f"{result.in_flight} of {result.kills['random']}"
    assert result.kills["random"] >= 20  # many more unless the computer is busy
    assert result.answers > result.kills.total()
    if result.kills["named"] > 20 * len(POINTS):
        assert set(result.points) == set(POINTS)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    shim.needed()
    with Campaign(1, name) as campaign:
        if name in NEEDS_POWER_LOSS:
            result = campaign.lose_power(LOSSES_FOR_A_PLANT)
        else:
            result = campaign.run(KILLS_FOR_A_PLANT)
    assert result.violations, (
        f"{result.kills.total()} kills and {result.losses} losses of power did not find it"
    )
    print(f"found after {result.kills.total()} kills: {result.violations[0]}")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_only_a_loss_of_power_shows_is_not_shown_by_a_kill() -> None:
    """So that it is the simulated loss of power that finds a skipped fsync, and nothing else."""
    shim.needed()
    with Campaign(1, "a skipped fsync") as campaign:
        assert campaign.run(40).violations == []


def line(did: Did, name: str = "", offset: int = 0, data: bytes = b"", *, failed: bool = False) -> Line:
    return Line(did, name, failed, offset, len(data), data, 0)


def left_by(tmp_path: Path, *lines: Line) -> dict[str, bytes]:
    disk = Disk()
    for one in lines:
        disk.do(one)
    disk.lose_power(tmp_path / "left")
    return {path.name: path.read_bytes() for path in (tmp_path / "left").iterdir()}


MADE = (line(Did.CREATE, "a"), line(Did.SYNC))


def test_a_loss_of_power_leaves_what_was_synced(tmp_path: Path) -> None:
    left = left_by(
        tmp_path,
        *MADE,
        line(Did.WRITE, "a", 0, b"one"),
        line(Did.SYNC, "a"),
        line(Did.WRITE, "a", 3, b"two"),
        line(Did.WRITE, "a", 0, b"x"),
    )
    assert left == {"a": b"one"}


def test_what_was_written_before_a_sync_that_failed_is_lost_though_the_next_one_succeeds(
    tmp_path: Path,
) -> None:
    left = left_by(
        tmp_path,
        *MADE,
        line(Did.WRITE, "a", 0, b"one"),
        line(Did.SYNC, "a", failed=True),
        line(Did.WRITE, "a", 3, b"two"),
        line(Did.SYNC, "a"),
    )
    assert left == {"a": b"\0\0\0two"}


def test_a_name_is_there_from_the_sync_of_its_folder_on_and_may_come_back_until_then(tmp_path: Path) -> None:
    left = left_by(
        tmp_path,
        *MADE,
        line(Did.WRITE, "a", 0, b"one"),
        line(Did.SYNC, "a"),
        line(Did.UNLINK, "a"),
        line(Did.CREATE, "b"),
        line(Did.WRITE, "b", 0, b"two"),
        line(Did.SYNC, "b"),
    )
    assert left == {"a": b"one"}


def test_a_file_that_was_cut_is_as_long_as_it_was_until_it_is_synced(tmp_path: Path) -> None:
    cut = Line(Did.TRUNCATE, "a", failed=False, offset=0, length=1, data=b"", end=0)
    written = (*MADE, line(Did.WRITE, "a", 0, b"one"), line(Did.SYNC, "a"), cut)
    assert left_by(tmp_path / "1", *written) == {"a": b"one"}
    assert left_by(tmp_path / "2", *written, line(Did.SYNC, "a")) == {"a": b"o"}


@pytest.mark.rule("C29")
def test_the_oracle_knows_that_an_entry_with_a_snapshot_names_the_timers_that_ran_before(
    tmp_path: Path,
) -> None:
    """Seed 7, round 50: two payments within the four milliseconds of a timer, the second with a snapshot."""
    path = tmp_path / "tills.db"

    replies: list[int] = []

    async def pay_twice() -> None:
        async with ActorSystem(
            Till, Ledger, journal=path, snapshots=SnapshotPolicy(every=1), trace=None
        ) as system:
            await system.spawn(Ledger, "ledger")
            till = await system.spawn(Till, "till-1")
            asked = (till.ask(Pay(number=n), event_id=f"a/{n}") for n in (1, 2))
            replies.extend(await asyncio.gather(*asked))  # in whichever order they came to the till

    simulate(pay_twice)
    answers: dict[str, tuple[str, Any, int]] = {
        f"a/{n}": ("till-1", reply, 0) for n, reply in enumerate(replies, 1)
    }
    notes = Notes(sent={"a/1", "a/2"}, answers=answers)
    assert judge(path, notes) == []
    with closing(sqlite3.connect(path)) as connection:
        bodies = [json.loads(body) for (body,) in connection.execute("SELECT body FROM entries")]
    assert any(len(body.get("timers_set", ())) == 2 for body in bodies)
