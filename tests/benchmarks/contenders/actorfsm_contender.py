"""actorfsm itself: the queued path, the fast path for idle machines, and what the options of daily use cost.

The whole contract holds in each variant: bounded mailbox, roll-back armed, deadline of the ask, wait-for
graph. Unless the name of a variant says otherwise, the trace is off and the event is built once.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..work import ALL, ASKS, AsyncContender, End, Session, Workload, WrongResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

MachineName = Literal["Light", "PlainLight", "SuspendingLight", "NestedLight"]
Trace = Literal["off", "json", "structlog"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run actorfsm."""

    machine: MachineName = "Light"
    inline: bool = True
    trace: Trace = "off"


def missing() -> str | None:
    """Why actorfsm cannot take part, in one line."""
    try:
        from . import actorfsm_machines  # noqa: F401
    except ImportError as error:
        return f"import actorfsm: {error}"
    return None


@asynccontextmanager
async def open_system(variant: Variant, ids: Sequence[str]) -> AsyncIterator[Session]:
    from actorfsm import ActorSystem

    from . import actorfsm_machines

    machine_class: Any = getattr(actorfsm_machines, variant.machine)
    with tempfile.TemporaryDirectory(prefix="trace-") as directory:
        log = Path(directory) / "trace.jsonl"
        async with ActorSystem(
            machine_class, trace=_sink(variant.trace, log), inline=variant.inline, mailbox_limit=100_000
        ) as system:
            refs = {machine_id: await system.spawn(machine_class, machine_id) for machine_id in ids}
            born = _lines(log)
            yield _session(system, refs)
            transitions = sum(ref.snapshot().seq - 1 for ref in refs.values())
        if variant.trace != "off" and (written := _lines(log) - born) < transitions:
            msg = f"{written} trace lines of {transitions} transitions"
            raise WrongResult(msg)


def _session(system: Any, refs: dict[str, Any]) -> Session:
    from .actorfsm_machines import Go

    def tell_last(machine_id: str, event: Go) -> Any:
        return system.tell(machine_id, event).outcome()

    return Session(
        make_event=lambda amount: Go(amount=amount),
        ask=system.ask,
        tell=system.tell,
        tell_last=tell_last,
        end=lambda machine_id: _end(refs[machine_id].snapshot()),
    )


def _end(snapshot: Any) -> End:
    data = snapshot.data if isinstance(snapshot.data, dict) else snapshot.data.model_dump()
    lines = data.get("lines")
    total = data["total"] if lines is None else sum(line["quantity"] for line in lines)
    return End(str(snapshot.state), data["customer"], total, data["weight"], data["urgent"], snapshot.seq)


def _sink(trace: Trace, log: Path) -> Any:
    """The sink of a trace to a file, or None."""
    if trace == "json":
        from actorfsm.sinks import JSONLines

        return JSONLines(log)
    if trace == "structlog":
        from actorfsm.sinks import StructlogSink

        return StructlogSink()
    return None


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _contender(name: str, variant: Variant, **options: Any) -> AsyncContender:
    return AsyncContender(
        name=f"actorfsm, {name}", open=partial(open_system, variant), check=missing, **options
    )


def contenders() -> list[AsyncContender]:
    ask, rounds = Workload.ASK, Workload.ROUND
    return [
        _contender("inline", Variant(), workloads=ALL, goals={ask: 2.75, rounds: 3.0}),
        _contender("queued", Variant(inline=False), workloads=ALL, goals={ask: 2.0, rounds: 3.0}),
        _contender("plain hooks", Variant("PlainLight"), workloads=ALL, goals={ask: 5.0, rounds: 3.0}),
        _contender(
            "event per send",
            Variant(),
            workloads=ASKS,
            build_per_send=True,
            baseline="a, event per send",
            goals={ask: 2.0},
        ),
        _contender("JSON lines to a file", Variant(trace="json"), workloads=ASKS, goals={ask: 1.0}),
        _contender(
            "structlog to a file", Variant(trace="structlog"), workloads=ASKS, share=0.5, goals={ask: 0.45}
        ),
        _contender("hooks suspend", Variant("SuspendingLight"), workloads=ASKS, baseline="a, hooks suspend"),
        _contender("nested list", Variant("NestedLight"), workloads=ASKS, baseline="a, nested list"),
    ]
