"""After a real fork the child is told that the system is its parent's; in the parent nothing has changed.

Each scenario is a program of its own: the tests' process has threads, and a fork of it would be a poor one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from random import Random
from typing import Any
from weakref import WeakSet

import pytest

from actorfsm import ActorSystem, WrongProcess
from actorfsm.runtime import fork
from tests.contract.lamp import Count, Later, lamp_of
from tests.contract.paths import Script, Style

pytestmark = [
    pytest.mark.rule("C10"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

PROGRAM = """
import asyncio, os, sys, warnings
from enum import Enum
from actorfsm import ActorSystem, Event, Limits, Machine, WrongProcess, WrongThread, transition

warnings.simplefilter("ignore")  # Python 3.12 warns of forks of a process with threads; the watchdog is one

class S(Enum):
    A = 1

class Go(Event[int]):
    pass

class M(Machine[S], initial=S.A):
    n: int = 0

    @transition(S.A, to=S.A)
    async def go(self, event: Go) -> int:
        self.n += 1
        return self.n

def refused(call):
    try:
        call()
    except WrongProcess as error:
        assert isinstance(error, WrongThread)
        assert "each process makes a system of its own" in str(error), error
    else:
        raise AssertionError(call)

def drive(coroutine):
    try:
        coroutine.send(None)
    except StopIteration:
        raise AssertionError("it returned") from None

def in_child(function):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, function
        return
    code = 1
    try:
        function()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
"""

RUNNING = """
async def main():
    async with ActorSystem(M, trace=None) as system:
        ref = await system.spawn(M, "m")
        waiting = system.threadsafe.call(lambda: None)
        receipt = system.tell("m", Go())
        late = system.tell("m", Go())
        await receipt

        def child():
            for call in (
                lambda: ref.tell(Go()),
                lambda: system.tell("m", Go()),
                lambda: ref.snapshot(),
                lambda: system.snapshot("m"),
                lambda: system.stats(),
                lambda: system.ids(),
                lambda: system.quarantined(),
                lambda: system.dead_letters,
                lambda: system.release("m"),
                lambda: drive(ref.ask(Go())),
                lambda: drive(system.ask("m", Go())),
                lambda: drive(system.spawn(M, "n")),
                lambda: drive(system.get_or_spawn(M, "m")),
                lambda: drive(system.stop("m")),
                lambda: drive(system.shutdown()),
                lambda: drive(system.__aexit__(None, None, None)),
                lambda: system.threadsafe.ask("m", Go()),
                lambda: system.threadsafe.tell("m", Go()),
                lambda: system.threadsafe.ref(M, "m").snapshot(),
            ):
                refused(call)
            if not waiting.done():
                refused(waiting.result)
                waiting.cancel()

        in_child(child)
        await late
        # in the parent nothing has changed
        assert await ref.ask(Go()) == 3
        assert (await asyncio.wrap_future(system.threadsafe.tell("m", Go()))).reply == 4
        assert system.stats().balance == 0

        def child_with_its_own():
            asyncio._set_running_loop(None)

            async def own():
                async with ActorSystem(M, trace=None) as mine:
                    assert await (await mine.spawn(M, "m")).ask(Go()) == 1

            asyncio.run(own())
            refused(lambda: system.tell("m", Go()))

        in_child(child_with_its_own)
    assert system.report.finished

asyncio.run(main())
print("ok")
"""

NOT_STARTED = """
system = ActorSystem(M, trace=None)

async def serve():
    async with system:
        receipt = system.tell("m", Go())
        return receipt.event_id

read, write = os.pipe()

def child():
    os.write(write, asyncio.run(serve()).encode() + b" ")

in_child(child)
in_child(child)
os.close(write)
ids = os.read(read, 1000).decode().split() + [asyncio.run(serve())]
assert len(set(ids)) == 3, ids
print("ok")
"""


@pytest.mark.parametrize("scenario", [RUNNING, NOT_STARTED], ids=["running", "not started"])
def test_a_child(scenario: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(scenario)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("ok\n", "", 0)


def test_what_is_watched_for_a_fork_is_not_kept_alive() -> None:
    lamp_class = lamp_of(Style.ASYNC)
    gc.collect()
    before = len(fork._WATCHED)
    systems: list[ActorSystem[Any]] = [
        ActorSystem(lamp_class, services=Script(), trace=None) for _ in range(10)
    ]
    assert len(fork._WATCHED) == before + 10
    del systems
    gc.collect()
    assert len(fork._WATCHED) == before


def test_a_system_that_was_not_started_gets_ids_of_its_own_in_the_child() -> None:
    """As it happens in the child, but here, where it can be seen."""
    first, second = (ActorSystem(lamp_of(Style.ASYNC), trace=None, random=Random(7)) for _ in range(2))
    run_id = first._parts.ids.run_id
    assert second._parts.ids.run_id == run_id
    first._parts.forked()
    assert first._parts.ids.run_id != run_id


def test_what_a_child_finds_can_be_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as in a child, without one."""
    lamp_class = lamp_of(Style.ASYNC)

    async def main() -> None:
        async with ActorSystem(lamp_class, services=Script(), trace=None) as system:
            await system.spawn(lamp_class, "lamp")
            waiting = system.threadsafe.ask("lamp", Later())
            calls, admission = system._parts.calls, system._parts.admission
            monkeypatch.setattr(fork, "_WATCHED", WeakSet([system._parts]))
            fork._in_child()
            with pytest.raises(WrongProcess):
                system.tell("lamp", Count())
            with pytest.raises(WrongProcess):
                system.threadsafe.tell("lamp", Count())
            with pytest.raises(WrongProcess):
                waiting.result()
            assert waiting.cancel()
            calls._forked, admission.thread = False, threading.get_ident()
            await system.shutdown(queues="abandon")
            assert system.stats().balance == 0

    asyncio.run(main())
