"""pykka: `ThreadingActor`, one thread per machine, 100 sender threads that block on their ask.

Its hooks are plain functions, because an actor of pykka has no coroutines. `round` is left out: there is no
loop to turn.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..work import AMOUNT, End, Load, Run, Workload, not_installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Go(NamedTuple):
    """The one event."""

    amount: int


@cache
def light_class() -> Any:
    import pykka

    class Light(pykka.ThreadingActor):
        use_daemon_thread = True

        def __init__(self) -> None:
            super().__init__()
            self.state = "A"
            self.customer = "c-1"
            self.total = 0
            self.weight = 1.5
            self.urgent = False
            self.seq = 0
            self.table = {("A", Go): ("B", self.add), ("B", Go): ("A", self.add)}

        def before(self, _old: str, _new: str) -> bool:
            return True

        def add(self, event: Go) -> int:
            self.total += event.amount
            return self.total

        def after(self, _old: str, _new: str) -> None:
            return None

        def on_receive(self, message: Go | None) -> int | End | None:
            if message is None:
                return End(self.state, self.customer, self.total, self.weight, self.urgent, self.seq)
            old = self.state
            new, body = self.table[old, type(message)]
            if not self.before(old, new):
                return None
            result = body(message)
            self.state = new
            self.seq += 1
            self.after(old, new)
            return result

    return Light


@dataclass(frozen=True, kw_only=True)
class PykkaContender:
    """Threads on both sides."""

    name: str = "pykka (threads)"
    workloads: Sequence[Workload] = (Workload.ASK, Workload.BURST, Workload.HOT)
    share: float = 0.2
    baseline: str = "a"
    goals: Mapping[Workload, float] = field(default_factory=dict)

    def missing(self) -> str | None:
        return not_installed("pykka")

    def run(self, workload: Workload, load: Load) -> Run:
        gc.collect()
        refs = {machine_id: light_class().start() for machine_id in load.ids}
        try:
            seconds = _time(refs, workload, load)
            return Run(seconds, [ref.ask(None) for ref in refs.values()])
        finally:
            for ref in refs.values():
                ref.stop(block=False)
            for ref in refs.values():
                ref.actor_stopped.wait()


def _time(refs: dict[str, Any], workload: Workload, load: Load) -> float:
    event = Go(AMOUNT)

    def send(ids: Sequence[str]) -> None:
        for _ in range(load.events):
            for machine_id in ids:
                refs[machine_id].ask(event)

    with ThreadPoolExecutor(load.senders) as senders:
        list(senders.map(len, load.hands()))  # the threads exist before the clock starts
        started = perf_counter()
        if workload is Workload.ASK:
            list(senders.map(send, load.hands()))
        elif workload is Workload.HOT:
            send(load.ids)
        else:
            _burst(refs, event, load)
        return perf_counter() - started


def _burst(refs: dict[str, Any], event: Go, load: Load) -> None:
    for _ in range(load.events - 1):
        for machine_id in load.ids:
            refs[machine_id].tell(event)
    for handled in [refs[machine_id].ask(event, block=False) for machine_id in load.ids]:
        handled.get()


def contenders() -> list[PykkaContender]:
    return [PykkaContender()]
