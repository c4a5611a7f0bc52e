"""actorfsm itself: the queued path, the fast path for idle machines, and what the options of daily use cost.

The whole contract holds in each variant: bounded mailbox, roll-back armed, deadline of the ask, wait-for
graph. Unless the name of a variant says otherwise, the trace is off and the event is built once.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from ..work import ALL, ASKS, AsyncContender, End, Session, Workload, WrongResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

MachineName = Literal["Light", "PlainLight", "SuspendingLight", "NestedLight"]
Trace = Literal["off", "json", "structlog"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run actorfsm."""

    machine: MachineName = "Light"
    inline: bool = True
    trace: Trace = "off"


def missing(trace: Trace) -> str | None:
    """Why actorfsm cannot take part, in one line."""
    try:
        from . import actorfsm_machines  # noqa: F401

        _sink_class(trace)
    except ImportError as error:
        return f"import actorfsm: {str(error).partition(' (')[0]}"
    return None


@asynccontextmanager
async def open_system(variant: Variant, ids: Sequence[str]) -> AsyncIterator[Session]:
    from actorfsm import ActorSystem

    from . import actorfsm_machines

    machine_class: Any = getattr(actorfsm_machines, variant.machine)
    with tempfile.TemporaryDirectory(prefix="trace-") as directory:
        log = Path(directory) / "trace.jsonl"
        with _sink(variant.trace, log) as sink:
            async with ActorSystem(machine_class, trace=sink, inline=variant.inline) as system:
                refs = {machine_id: await system.spawn(machine_class, machine_id) for machine_id in ids}
                seq_at_birth = {machine_id: ref.snapshot().seq for machine_id, ref in refs.items()}
                session = _session(system, refs, seq_at_birth)
                yield session
                transitions = sum(session.end(machine_id).seq for machine_id in ids)
        if variant.trace != "off" and (lines := log.read_bytes().count(b"\n")) < transitions:
            msg = f"{lines} trace lines of {transitions} transitions"
            raise WrongResult(msg)


def _session(system: Any, refs: dict[str, Any], seq_at_birth: dict[str, int]) -> Session:
    from .actorfsm_machines import Go

    def tell_last(machine_id: str, event: Go) -> Any:
        return system.tell(machine_id, event).outcome()

    def end(machine_id: str) -> End:
        snapshot = refs[machine_id].snapshot()
        data = snapshot.data
        lines = data.get("lines")
        total = data["total"] if lines is None else sum(line.quantity for line in lines)
        seq = snapshot.seq - seq_at_birth[machine_id]
        return End(str(snapshot.state), data["customer"], total, data["weight"], data["urgent"], seq)

    return Session(
        make_event=lambda amount: Go(amount=amount),
        ask=system.ask,
        tell=system.tell,
        tell_last=tell_last,
        end=end,
    )


def _sink_class(trace: Trace) -> Any:
    if trace == "off":
        return None
    from actorfsm import sinks

    name = "JSONLines" if trace == "json" else "StructlogSink"
    try:
        return getattr(sinks, name)
    except AttributeError:
        msg = f"cannot import name {name!r} from 'actorfsm.sinks'"
        raise ImportError(msg) from None


@contextmanager
def _sink(trace: Trace, log: Path) -> Iterator[Any]:
    """The sink of a trace to the file, or None."""
    match trace:
        case "off":
            yield None
        case "json":
            sink = _sink_class(trace)(log)
            try:
                yield sink
            finally:
                getattr(sink, "close", sink.flush)()
        case "structlog":
            with log.open("w", encoding="utf-8") as file, _structlog_to(file):
                yield _sink_class(trace)()


@contextmanager
def _structlog_to(file: TextIO) -> Iterator[None]:
    """Structlog as one would set it up for a busy service: level, time, JSON, no standard logging in between."""
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file),
    )
    try:
        yield
    finally:
        structlog.reset_defaults()


def _contender(name: str, variant: Variant, **options: Any) -> AsyncContender:
    return AsyncContender(
        name=f"actorfsm: {name}",
        open=partial(open_system, variant),
        check=partial(missing, variant.trace),
        **options,
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
            baseline="a: event per send",
            goals={ask: 2.0},
        ),
        _contender("JSON lines to a file", Variant(trace="json"), workloads=ASKS, goals={ask: 1.0}),
        _contender(
            "structlog to a file", Variant(trace="structlog"), workloads=ASKS, share=0.5, goals={ask: 0.45}
        ),
        _contender("hooks suspend", Variant("SuspendingLight"), workloads=ASKS, baseline="a: hooks suspend"),
        _contender("nested list", Variant("NestedLight"), workloads=ASKS, baseline="a: nested list"),
    ]
