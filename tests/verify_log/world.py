"""A log for the tests of verify-log: a seeded run of machines that do everything that a log can tell of."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from enum import StrEnum, auto
from random import Random
from types import SimpleNamespace
from typing import Any

from actorfsm import (
    STAY,
    ActorSystem,
    Directive,
    Event,
    Machine,
    RestartPolicy,
    StateTimeout,
    Veto,
    after_transition,
    on_timeout,
    postpone,
    transition,
)
from actorfsm.errors import ActorFSMError
from actorfsm.sinks.json_lines import JSONLines
from actorfsm.testing.loop import simulate
from actorfsm.verify_log.command import verify_log

HERE = "tests.verify_log.world"
CLASSES = (f"{HERE}:Parcel", f"{HERE}:Signal")


class Place(StrEnum):
    SHELF = auto()
    ROAD = auto()
    DOOR = auto()


class Light(StrEnum):
    RED = auto()
    GREEN = auto()


class Post(Event):
    """Gives birth to a parcel."""

    refused: bool = False


class Move(Event):
    allowed: bool = True
    quarrel: bool = False
    trouble_after: bool = False


class Note(Event):
    pass


class Break(Event):
    pass


class Deliver(Event):
    pass


class Thank(Event):
    pass


def may_move(machine: Any, event: Move) -> bool:
    return event.allowed


class Parcel(
    Machine[Place],
    final=(Place.DOOR,),
    on_failure={ValueError: Directive.RESTART},
    restart=RestartPolicy(max_restarts=1, within_s=1_000.0, first_delay_s=0.05),
):
    moves: int = 0

    @transition(to=Place.SHELF)
    async def post(self, event: Post) -> None:
        if event.refused:
            raise Veto("no stamp")

    @transition(Place.SHELF, to=Place.ROAD, when=may_move)
    async def leave(self, event: Move) -> None:
        self.moves += 1
        await asyncio.sleep(0.01)
        if event.quarrel:
            raise Veto("strike")

    @transition(Place.ROAD, to=Place.SHELF)
    async def come_back(self, event: Move) -> None:
        self.moves += 1
        if event.quarrel:
            raise Veto("strike")

    @postpone(Place.SHELF)
    @transition(Place.ROAD, to=STAY)
    async def note(self, event: Note) -> None: ...

    @transition(Place.SHELF, Place.ROAD, to=STAY)
    async def drop(self, event: Break) -> None:
        raise ValueError("glass")

    @transition(Place.ROAD, to=Place.DOOR)
    async def deliver(self, event: Deliver) -> None: ...

    @transition(Place.DOOR, to=STAY)
    async def thank(self, event: Thank) -> None: ...

    @on_timeout(Place.SHELF, after=50, to=Place.ROAD)
    async def tire(self, event: StateTimeout) -> None: ...

    @after_transition(Place.ROAD)
    async def tell_them(self, old: Place, new: Place, event: Event) -> None:
        if isinstance(event, Move) and event.trouble_after:
            raise OSError("no mail")

    @after_transition(Place.SHELF, detached=True)
    async def count(self, old: Place, new: Place, event: Event) -> None:
        if isinstance(event, Move) and event.trouble_after:
            await asyncio.sleep(0.02)
            raise OSError("no shelf")


class Signal(Machine[Light], initial=Light.RED):
    """From any state to any other."""


EDGES = {
    ("Parcel", None, "Post"): {"SHELF"},
    ("Parcel", "SHELF", "Move"): {"ROAD"},
    ("Parcel", "ROAD", "Move"): {"SHELF"},
    ("Parcel", "ROAD", "Note"): {"ROAD"},
    ("Parcel", "SHELF", "Break"): {"SHELF"},
    ("Parcel", "ROAD", "Break"): {"ROAD"},
    ("Parcel", "ROAD", "Deliver"): {"DOOR"},
    ("Parcel", "DOOR", "Thank"): {"DOOR"},
    ("Parcel", "SHELF", "StateTimeout"): {"ROAD"},
    ("Signal", None, "Spawn"): {"RED"},
    ("Signal", "RED", "TransitionRequested"): {"RED", "GREEN"},
    ("Signal", "GREEN", "TransitionRequested"): {"RED", "GREEN"},
}
"""What the definitions say, said a second time."""
STATES = {"Parcel": ["SHELF", "ROAD", "DOOR"], "Signal": ["RED", "GREEN"]}


async def live(system: ActorSystem[Any], rng: Random) -> None:  # noqa: PLR0912 -- a table
    parcels = [f"parcel-{n}" for n in range(5)]
    for n in range(2):
        await system.spawn(Signal, f"signal-{n}", event_id=f"birth-{n}")
    known: list[tuple[str, Event, str]] = []
    for step in range(220):
        machine_id = parcels[int(rng.random() * len(parcels))]
        event = rng.choice(
            [
                *[Move()] * 5,
                Move(allowed=False),
                Move(quarrel=True),
                *[Move(trouble_after=True)] * 2,
                *[Note()] * 3,
                *[Break()] * (step % 2 * 3),
                *[Thank()] * 2,
                *[Deliver()] * (step % 5 == 0),
            ]
        )
        match int(rng.random() * 14):
            case 0 | 1:
                system.tell(machine_id, Post(refused=rng.random() < 0.3))
            case 2:
                if known:
                    again, the_same, event_id = rng.choice(known)
                    system.tell(again, the_same, event_id=event_id)
            case 3 | 4:
                event_id = f"mine-{step}"
                known.append((machine_id, event, event_id))
                for _ in range(1 + (rng.random() < 0.3)):
                    system.tell(machine_id, event, event_id=event_id)
            case 5:
                signal = f"signal-{int(rng.random() * 2)}"
                system.ref(Signal, signal).request_transition(rng.choice(list(Light)))
            case 6:
                if rng.random() < 0.5 and machine_id in system.ids():
                    await system.stop(machine_id)
            case 7:
                for held in system.quarantined():
                    system.release(held)
            case 8:
                await asyncio.sleep(rng.random() * 40)
            case 9:
                with suppress(ActorFSMError):
                    await system.ask(machine_id, event, timeout=0.005)
            case _:
                system.tell(machine_id, event)
                await asyncio.sleep(rng.random() / 20)


def records_of(seed: int, *sinks: Any) -> None:
    """Run a seed, and give its records to the sinks."""

    async def scenario() -> None:
        async with ActorSystem(Parcel, Signal, trace=list(sinks), random=Random(seed)) as system:
            await live(system, Random(f"verify-log {seed}"))
            await asyncio.sleep(200)
            for held in system.quarantined():
                system.release(held)

    simulate(scenario, seed=seed)


def log_of(seed: int) -> list[dict[str, Any]]:
    """Return the log of a seed, as the fields of its lines."""
    file = io.BytesIO()
    with JSONLines(file, clock=None) as sink:
        records_of(seed, sink)
    return [json.loads(line) for line in file.getvalue().splitlines()]


def text_of(lines: list[dict[str, Any] | bytes]) -> bytes:
    """Return lines as they stand in a file; what is bytes stands there as it is."""
    return b"".join(
        line if isinstance(line, bytes) else json.dumps(line, separators=(",", ":")).encode() + b"\n"
        for line in lines
    )


def verify(log: bytes, *classes: str, **options: bool) -> tuple[int, str, str]:
    """Return the exit status, the verdict and the complaint."""
    chosen = SimpleNamespace(
        classes=classes or CLASSES, **{"partial": False, "runs": False, "mixed": False, **options}
    )
    out, err = io.StringIO(), io.StringIO()
    status = verify_log(chosen, io.BytesIO(log), out, err)  # type: ignore[arg-type]
    return status, out.getvalue(), err.getvalue()
