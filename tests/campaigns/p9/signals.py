"""A SIGTERM while a hundred thousand events wait, in a process of its own that runs by `actorfsm.run`.

What must hold: with enough time all of them are handled; with too little the rest is answered at the deadline; in both
cases every event has one outcome that its sender and the trace agree on, and the tree stops in the reverse order of
start.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from time import perf_counter
from typing import Any, Final

from tests.campaigns import ledger
from tests.campaigns.p9.program import MACHINES
from tests.campaigns.p9.world import Findings

EVENTS: Final = 100_000
LONG_S: Final = 60.0
SHORT_S: Final = 1.0
PAUSE_S: Final = 0.01
"""How long a hook waits where the time shall be too short: all of them would take fifty seconds."""
SLACK_S: Final = 20.0
"""To answer those that were not handled, on a processor that has other things to do."""
LATE_S: Final = 3.0
"""How much later than its deadline a busy loop may give up its queues."""


def sigterm_finishes_the_queues(seed: int, *, events: int = EVENTS, plant: str = "") -> Findings:
    findings = Findings()
    said = told_to_end(findings, events, 0.0, LONG_S, plant)
    findings.expect_equal("finished", said.get("finished"), True)
    findings.expect_equal("outcomes", said.get("told"), {"committed": events})
    findings.expect_equal("abandoned", said.get("abandoned"), 0)
    return findings


def sigterm_with_too_little_time(seed: int, *, events: int = EVENTS, plant: str = "") -> Findings:
    findings = Findings()
    said = told_to_end(findings, events, PAUSE_S, SHORT_S, plant)
    told = said.get("told", {})
    findings.expect_equal("finished", said.get("finished"), False)
    findings.expect(set(told) == {"committed", "dead_lettered"}, f"outcomes: {told}")
    findings.expect_equal("abandoned", said.get("abandoned"), told.get("dead_lettered"))
    return findings


def told_to_end(
    findings: Findings, events: int, pause_s: float, timeout_s: float, plant: str
) -> dict[str, Any]:
    """Start the program, tell it to end when all events wait, and judge what it says."""
    arguments = [
        "--events",
        str(events),
        "--pause",
        str(pause_s),
        "--timeout",
        str(timeout_s),
        "--plant",
        plant,
    ]
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.campaigns.p9.program", *arguments],
        cwd=ledger.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        first = program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        signalled_at = perf_counter()
        out, err = program.communicate(timeout=timeout_s + 60)
        took_s = perf_counter() - signalled_at
    except subprocess.TimeoutExpired:
        findings.violations.append("the program did not end")
        return {}
    finally:
        program.kill()
        program.wait()
    if not first or not out:
        findings.violations.append(f"the program said nothing: {err}")
        return {}
    said: dict[str, Any] = json.loads(out)
    findings.expect_equal("queued", json.loads(first), {"queued": events})
    findings.expect_equal("exit code", program.returncode, 128 + signal.SIGTERM)
    findings.expect(took_s <= timeout_s + SLACK_S, f"it ended {took_s:.1f} s after the signal")
    findings.expect(
        said["waited_s"] <= timeout_s + LATE_S,
        f"the system waited for its queues for {said['waited_s']:.1f} s",
    )
    findings.expect_equal("events with an outcome", sum(said["told"].values()), events)
    findings.expect_equal("what the trace says", said["traced"], said["told"])
    findings.expect_equal("events with two outcomes", said["twice"], 0)
    findings.expect_equal("what the machines counted", said["counted"], said["told"].get("committed", 0))
    started = ["first", *(f"m{n}" for n in range(MACHINES)), "machines", "last"]
    findings.expect_equal("the order of start", said["started"], started)
    # A supervisor has started after its children, and has stopped after them too.
    stopped = ["last", *(f"m{n}" for n in reversed(range(MACHINES))), "machines", "first"]
    findings.expect_equal("the order of stop", said["stopped"], stopped)
    for what, nothing in (("unstopped", []), ("balance", 0), ("tasks", 1)):
        findings.expect_equal(what, said[what], nothing)
    findings.figures |= {"handled": said["counted"], "seconds": round(said["seconds"], 1)}
    return said
