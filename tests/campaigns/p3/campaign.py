"""P3: systems are killed at random moments and at named points; after each kill the file is looked at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import actorfsm
from tests.campaigns.disk.power import Disk, lines_of
from tests.campaigns.disk.shim import ALL, Action, Control
from tests.campaigns.disk.verify import verified
from tests.campaigns.p3.oracle import Notes, judge, judge_rest

ROOT: Final = Path(__file__).parents[3]
LIVES: Final = 20
"""Kills of one journal; then it is let come to rest, and another is begun."""
LOSSES: Final = 20
"""At so many moments of a life; each loss takes all that was not synced, and then again some of it."""
COMMITS: Final = 14
"""After at most so many commits of a victim comes a random kill."""
STARTS_S: Final = 0.02
CYCLE_S: Final = 0.003
"""In seconds, more than a start takes, and more than a group of commits and what is done in between."""
CALLS: Final = 120
"""Among so many calls of SQLite one is chosen."""
PATIENCE_S: Final = 20.0
POINTS: Final = (
    *("connect", "started", "before the answer", "after the answer"),
    *("before begin", "after begin", "before commit", "after commit", "before pragma", "after pragma"),
    *("after insert into entries", "after insert into machines", "after insert into pending"),
    *("after insert into timers", "after delete from timers", "after delete from pending", "before update"),
)


@dataclass
class Result:
    """What was done and found.

    Attributes:
        kills: How many processes were killed, by how the moment was chosen.
        in_flight: Of the random kills, those with a commit in flight.
        missed: Points that were never reached; then the process was killed later.
        answers: What clients were answered.
        losses: Losses of power that were simulated.
        violations: What was found, each with the round and the kill.
    """

    kills: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    missed: int = 0
    answers: int = 0
    losses: int = 0
    points: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def share_in_flight(self) -> float:
        """The share of the random kills that hit a commit in flight."""
        return self.in_flight / max(1, self.kills["random"])


class Campaign:
    """Starts a nursery, and has its children killed.

    Args:
        seed: Chooses the moments.
        plant: A bug that is planted into the victims.
    """

    def __init__(self, seed: int, plant: str | None = None) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.plant = plant
        self.result = Result()
        self.folder = Path(tempfile.mkdtemp(prefix="p3-"))
        self.control = Control(self.folder / "control")
        paths = [str(ROOT), str(Path(actorfsm.__file__).parents[1])]
        self.said = (self.folder / "said").open("w+b")
        self.nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.campaigns.p3.nursery", str(self.control.path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **self.control.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )
        self.rounds = 0
        self.children: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.close()
        self.nursery.wait(PATIENCE_S)
        self.nursery.stdout.close()
        self.said.close()
        self.control.close()
        shutil.rmtree(self.folder)

    def do(self, command: str, **given: Any) -> Any:
        """Have the nursery do something."""
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(json.dumps({"do": command, **given}) + "\n")
        self.nursery.stdin.flush()
        line = self.nursery.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery died: {self.all_said()}")
        answer = json.loads(line)
        if command in {"victim", "client"}:
            self.children.add(answer)
        elif command == "wait":
            self.children.discard(given["pid"])
        return answer

    def all_said(self) -> str:
        """Return what the processes wrote to their standard error."""
        self.said.seek(0)
        return self.said.read().decode(errors="replace")

    # -- one journal after the other ------------------------------------------------------------------------------

    def run(self, kills: int, seconds: float = 1e9) -> Result:
        """Kill so many victims, or for so long; stop at the first violation."""
        end = time.monotonic() + seconds
        while self.result.kills.total() < kills and time.monotonic() < end and not self.result.violations:
            Round(self).run()
        return self.result

    def lose_power(self, losses: int) -> Result:
        """Simulate so many losses of power; stop at the first violation."""
        while self.result.losses < losses and not self.result.violations:
            Round(self, with_log=True).lose_power()
        return self.result


class Round:
    """One journal, one client, and the lives of its systems."""

    def __init__(self, campaign: Campaign, *, with_log: bool = False) -> None:
        self.campaign = campaign
        self.random = campaign.random
        self.result = campaign.result
        self.number = campaign.rounds
        campaign.rounds += 1
        self.folder = campaign.folder / f"r{self.number}"
        self.disk = self.folder / "disk"
        self.disk.mkdir(parents=True)
        self.log = self.folder / "log" if with_log else None
        self.notes = Notes()
        self.read = 0
        campaign.control.watch(self.disk, self.log)
        campaign.do("listen", folder=str(self.folder))
        log = None if self.log is None else str(self.log)
        self.client = campaign.do(
            "client", folder=str(self.folder), seed=self.random.getrandbits(32), log=log
        )

    def run(self) -> None:
        """Kill `LIVES` victims, look at the file after each, then let one come to rest."""
        how, pid = self.begin()
        for life in range(LIVES):
            self.end(how, pid)
            when = f"kill {life} ({self.point})"
            self.take_copy()
            if life + 1 < LIVES:
                how, pid = self.begin()  # while it starts, there is time to look
            self.check(when)
            if self.result.violations:
                if life + 1 < LIVES:
                    self.end("random", pid)
                self.give_up()
                return
        self.come_to_rest()

    def begin(self) -> tuple[str, int]:
        """Start a victim, and choose how it shall end."""
        control, random = self.campaign.control, self.random
        control.disarm()
        control.busy = control.commits = 0
        how = random.choices(["random", "named", "call"], [6, 2, 2])[0]
        point, nth = "", 0
        if how == "named":
            point, nth = random.choice(POINTS), random.choice([1, 1, 2, 5, 13])
        elif how == "call":
            action = random.choice([Action.KILL_BEFORE, Action.KILL_TORN, Action.KILL_AFTER])
            control.arm(random.randint(1, CALLS), ALL, action)
        pid = self.campaign.do(
            "victim", folder=str(self.folder), plant=self.campaign.plant, point=point, nth=nth
        )
        self.point = f"{point} {nth}" if point else how
        return how, pid

    def end(self, how: str, pid: int) -> None:
        """Kill the victim, or wait until its point has killed it."""
        if how == "random":
            self.wait_a_while()
        elif not died(pid, 0.12):
            self.result.missed += 1
            how = "late"
        in_flight = self.campaign.control.busy
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status = self.campaign.do("wait", pid=pid)
        if status != -signal.SIGKILL:
            said = self.campaign.all_said()
            self.result.violations.append(f"round {self.number}: the system ended with {status}: {said}")
        self.result.kills[how] += 1
        if how == "random":
            # It could not go on between the look and the kill if it is in flight now, too.
            self.result.in_flight += bool(in_flight and self.campaign.control.busy)
        elif how == "named":
            self.result.points[self.point.rpartition(" ")[0]] += 1

    def wait_a_while(self) -> None:
        """Wait for a moment at random: in the start of the victim, or in the cycle after one of its commits."""
        commits = self.random.randint(0, COMMITS)
        end = time.monotonic() + 1.0
        while self.campaign.control.commits < commits and time.monotonic() < end:
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, CYCLE_S if commits else STARTS_S))

    def take_copy(self) -> None:
        """Copy the file as the kill has left it, and what was answered until then."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in self.disk.glob("journal.db*"):
            if not path.name.endswith(("-shm", "-lock")):
                shutil.copy(path, copy)
        self.read = self.notes.read(self.folder / "client.txt", self.read)

    def check(self, when: str) -> None:
        """Look at the copy."""
        file = self.folder / "copy" / "journal.db"
        found = judge(file, self.notes) or verified(file)
        self.result.violations += [f"round {self.number}, {when}: {one}" for one in found]

    def come_to_rest(self) -> None:
        """Let the last system end what is under way, and look at what is left."""
        (self.folder / "rest").touch()
        campaign = self.campaign
        campaign.control.disarm()
        pid = campaign.do("victim", folder=str(self.folder), plant=campaign.plant, point="", nth=0)
        if not died(pid, PATIENCE_S):
            os.kill(pid, signal.SIGKILL)
            self.result.violations.append(f"round {self.number}: the last system does not come to rest")
        status = campaign.do("wait", pid=pid)
        if status != 0:
            said = campaign.all_said()
            self.result.violations.append(f"round {self.number}: the last system ended with {status}: {said}")
            self.give_up()
            return
        campaign.do("wait", pid=self.client)
        self.read = self.notes.read(self.folder / "client.txt", self.read)
        file = self.disk / "journal.db"
        found = judge_rest(file, self.notes) or verified(file)
        self.result.violations += [f"round {self.number}, at rest: {one}" for one in found]
        self.result.answers += len(self.notes.answers)
        shutil.rmtree(self.folder)

    def give_up(self) -> None:
        """End the client."""
        with suppress(ProcessLookupError):
            os.kill(self.client, signal.SIGKILL)
        self.campaign.do("wait", pid=self.client)
        shutil.rmtree(self.folder)

    # -- loss of power --------------------------------------------------------------------------------------------

    def lose_power(self) -> None:
        """Let a victim run and be killed, then look at what a loss of power at so many moments would have left."""
        # One life only: a kill may come between a call and its line in the log, which a next life would build on.
        how, pid = self.begin()
        self.end(how, pid)
        self.take_copy()
        os.kill(self.client, signal.SIGKILL)
        self.campaign.do("wait", pid=self.client)
        assert self.log is not None
        lines = list(lines_of(self.log))
        disk, done = Disk(), 0
        for moment in sorted(self.random.sample(range(len(lines)), min(LOSSES, len(lines)))):
            for line in lines[done:moment]:
                disk.do(line)
            done = moment
            size = lines[moment - 1].end if moment else 0
            for kind in ("all", "some"):
                left = self.folder / f"left-{moment}-{kind}"
                disk.lose_power(left, None if kind == "all" else self.random)
                found = judge(left / "journal.db", self.notes, log_size=size) or verified(left / "journal.db")
                self.result.violations += [
                    f"round {self.number}, power lost after {moment} of {len(lines)} calls ({kind}): {one}"
                    for one in found
                ]
                self.result.losses += 1
                shutil.rmtree(left)
        self.result.answers += len(self.notes.answers)
        shutil.rmtree(self.folder)


def died(pid: int, within_s: float) -> bool:
    """Wait until a process has died, though nobody has buried it yet; return whether it has."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            state = (
                Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[0]
            )
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.002)
    return False
