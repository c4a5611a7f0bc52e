"""The process of P4 that has the shim: `python -m tests.campaigns.p4.worker CONTROL FOLDER SCENARIO STEP [PLANT]`.

It prints a line for each fault, and `?` before each run, so that whoever waits knows when one hangs.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path

from tests.campaigns.disk.shim import Control
from tests.campaigns.p4.faults import FAULTS, STEPS
from tests.campaigns.p4.plants import PLANTS
from tests.campaigns.p4.world import World

MOST_CALLS = 5_000


def main(control: str, folder: str, scenario: str, stride: str, plant: str = "") -> None:
    """Let each fault strike at each call, or at every so many of them; stop at the first violation."""
    world = World(Path(folder), Control(Path(control)), scenario)
    for place, (name, fault) in enumerate(FAULTS.items()):
        runs, broken = 0, []
        step = STEPS[fault.kinds] if stride == "build" else 1
        for at in range(1 + (5 * place) % step, MOST_CALLS, step):
            print("?", scenario, name, at, flush=True)
            with PLANTS[plant]() if plant else nullcontext():
                fired, broken = world.run(fault, at)
            runs += fired
            if broken or not fired:
                break
        found = [f"{scenario}, {name} at call {at}: {one}" for one in broken]
        print(json.dumps({"runs": runs, "answers": world.answers, "broken": found}), flush=True)
        if broken:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
