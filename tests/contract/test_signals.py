"""`actorfsm.run` under real signals, in processes of their own; and no signal is touched by anything else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import actorfsm
from actorfsm import ActorSystem, WrongThread
from actorfsm.runtime.run import _Signals
from tests.contract.lamp import Count, lamp_of
from tests.contract.paths import Script, Style

pytestmark = [
    pytest.mark.rule("C19"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

PROGRAM = """
import asyncio, json, os, signal, sys, time
from enum import Enum
import actorfsm
from actorfsm import ActorSystem, Event, Limits, Machine, MailboxPolicy, transition

loop_factory = None
if sys.argv[1] == "uvloop":
    import uvloop
    loop_factory = uvloop.new_event_loop
argument = sys.argv[2]

class S(Enum):
    A = 1

class Go(Event[int]):
    pass

class Hang(Event):
    pass

class M(Machine[S], initial=S.A, hook_timeout=60, mailbox=MailboxPolicy(capacity=100_000)):
    n: int = 0

    @transition(S.A, to=S.A)
    async def go(self, event: Go) -> int:
        self.n += 1
        if self.n % 100 == 0:
            await asyncio.sleep(0.001)
        return self.n

    @transition(S.A, to=S.A)
    async def hang(self, event: Hang) -> None:
        await asyncio.sleep(60)

outcomes = {}
def told(outcome):
    outcomes[outcome.kind] = outcomes.get(outcome.kind, 0) + 1

def say(**what):
    print(json.dumps(what), flush=True)

def handlers():
    return [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

before = handlers()
"""

END = """
try:
    result = actorfsm.run(main, loop_factory=loop_factory)
except BaseException as error:
    ended = repr(error)
    raise
else:
    ended = result
finally:
    say(ended=ended, restored=handlers() == before, outcomes=outcomes)
"""

MANY = """
async def main():
    system = ActorSystem(M, trace=None, limits=Limits(blocked_s=0))
    try:
        async with system:
            for name in "abc":
                await system.spawn(M, name)
            for n in range(9000):
                system.tell("abc"[n % 3], Go(), callback=told)
            await asyncio.sleep(0)
            say(queued=system.stats().queued, ours=handlers() != before)
            await asyncio.sleep(60)
    finally:
        say(report=[system.report.finished, system.report.abandoned], balance=system.stats().balance)
"""

HUNG = """
async def main():
    system = ActorSystem(M, trace=None, limits=Limits(blocked_s=0, grace_s=1))
    try:
        async with system:
            await system.spawn(M, "a")
            system.tell("a", Hang(), callback=told)
            for n in range(50):
                system.tell("a", Go(), callback=told)
            await asyncio.sleep(0.01)
            say(queued=system.stats().queued, ours=handlers() != before)
            await asyncio.sleep(60)
    finally:
        say(report=[system.report.finished, system.report.abandoned], balance=system.stats().balance)
"""

SWALLOWED = """
async def main():
    say(queued=0, ours=handlers() != before)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "gone on"
"""

RAISED = SWALLOWED.replace('return "gone on"', 'raise ValueError("tidying up failed") from None')

BLOCKED = """
async def main():
    say(queued=0, ours=handlers() != before)
    time.sleep(0.5)  # the signal comes while the loop is blocked
    await asyncio.sleep(60)
"""


def loops() -> list[Any]:
    try:
        import uvloop  # noqa: F401
    except ImportError:  # pragma: no cover
        return ["asyncio"]
    return ["asyncio", "uvloop"]


on_each_loop = pytest.mark.parametrize("loop", loops())
BY = pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
CODES = {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}
"""Python ends by the signal itself when a KeyboardInterrupt is not caught."""
ERRORS = {signal.SIGTERM: "SystemExit(143)", signal.SIGINT: "KeyboardInterrupt()"}


class Child:
    """A program under `actorfsm.run`, and what it says."""

    def __init__(self, program: str, loop: str, argument: str = "", start: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + start + textwrap.dedent(program) + END, loop, argument],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """Return the next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        said: dict[str, Any] = json.loads(line)
        return said

    def kill(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[list[dict[str, Any]], int]:
        """Return what it says until its end, and its exit code."""
        out, err = self.process.communicate(timeout=40)
        said = [json.loads(line) for line in out.splitlines()]
        assert said, err
        return said, self.process.returncode


@on_each_loop
@BY
def test_a_signal_finishes_the_queues(loop: str, by: signal.Signals) -> None:
    child = Child(MANY, loop)
    began = child.hear()
    assert began["ours"]
    assert began["queued"] > 5000
    child.kill(by)
    said, code = child.end()
    assert said == [
        {"report": [True, 0], "balance": 0},
        {"ended": ERRORS[by], "restored": True, "outcomes": {"committed": 9000}},
    ]
    assert code == CODES[by]


@on_each_loop
@BY
def test_a_second_signal_abandons_and_everything_is_answered_even_so(loop: str, by: signal.Signals) -> None:
    child = Child(HUNG, loop)
    assert child.hear()["queued"] == 50
    child.kill(by)
    time.sleep(0.3)  # it is finishing its queues, which would take a minute
    assert child.process.poll() is None
    child.kill(by)
    said, code = child.end()
    assert said == [
        {"report": [False, 50], "balance": 0},
        {"ended": ERRORS[by], "restored": True, "outcomes": {"failed": 1, "dead_lettered": 50}},
    ]
    assert code == CODES[by]


@on_each_loop
@BY
def test_a_program_that_swallows_the_cancellation_has_been_told_to_end_even_so(
    loop: str, by: signal.Signals
) -> None:
    child = Child(SWALLOWED, loop)
    child.hear()
    child.kill(by)
    said, code = child.end()
    assert said == [{"ended": ERRORS[by], "restored": True, "outcomes": {}}]
    assert code == CODES[by]


def test_what_the_program_raises_when_it_is_told_to_end_is_not_hidden() -> None:
    child = Child(RAISED, "asyncio")
    child.hear()
    child.kill(signal.SIGTERM)
    said, code = child.end()
    assert said[0]["ended"] == "ValueError('tidying up failed')"
    assert said[0]["restored"]
    assert code == 1


@on_each_loop
def test_a_signal_that_comes_while_the_loop_is_blocked_is_obeyed_afterwards(loop: str) -> None:
    child = Child(BLOCKED, loop)
    child.hear()
    child.kill(signal.SIGTERM)
    said, code = child.end()
    assert (said[0]["ended"], code) == (ERRORS[signal.SIGTERM], 143)


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    program = """
    async def main():
        say(ours=[signal.getsignal(signal.SIGTERM) == before[0], signal.getsignal(signal.SIGINT) == before[1]])
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        return "not disturbed"
    """
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nbefore = handlers()\n"
    child = Child(program, "asyncio", start=ignoring)
    assert child.hear() == {"ours": [False, True]}
    said, code = child.end()
    assert (said[0]["ended"], said[0]["restored"], code) == ("not disturbed", True, 0)


# -- in this process -------------------------------------------------------------------------------------------------


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def factory_of(loop: str) -> Any:
    if loop == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


@on_each_loop
def test_run_returns_what_main_returns_and_puts_the_handlers_back(loop: str) -> None:
    before = handlers()

    async def main() -> str:
        assert handlers() != before
        assert (type(asyncio.get_running_loop()).__module__ == "uvloop") == (loop == "uvloop")
        return "done"

    assert actorfsm.run(main, loop_factory=factory_of(loop)) == "done"
    assert handlers() == before


@on_each_loop
@pytest.mark.parametrize(
    ("number", "error", "code"), [("SIGTERM", SystemExit, 143), ("SIGINT", KeyboardInterrupt, None)]
)
def test_main_is_cancelled_once_by_each_signal(
    loop: str, number: str, error: type[BaseException], code: int | None
) -> None:
    before = handlers()
    cancels: list[int] = []

    async def main() -> None:
        for _ in range(2):
            os.kill(os.getpid(), getattr(signal, number))
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                cancels.append(task.cancelling())
                await asyncio.sleep(0.02)  # not cancelled a second time

    with pytest.raises(error) as caught:
        actorfsm.run(main, loop_factory=factory_of(loop))
    assert getattr(caught.value, "code", None) == code
    assert cancels == [1, 2]
    assert handlers() == before


def test_what_main_raises_comes_out_and_the_handlers_are_put_back() -> None:
    before = handlers()

    async def main() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        actorfsm.run(main)
    assert handlers() == before


def test_a_main_that_is_cancelled_without_a_signal_is_cancelled() -> None:
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        actorfsm.run(main)


def test_a_signal_before_main_has_begun_means_that_it_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    install = _Signals.install

    async def main() -> None:
        begun.append(1)

    def install_and_hit(self: Any, loop: Any) -> None:
        install(self, loop)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(_Signals, "install", install_and_hit)
    with pytest.raises(SystemExit):
        actorfsm.run(main)
    assert begun == []


def test_it_runs_on_the_main_thread_only() -> None:
    raised: list[BaseException] = []

    async def main() -> None: ...

    def call() -> None:
        try:
            actorfsm.run(main)
        except WrongThread as error:
            raised.append(error)

    thread = threading.Thread(target=call, name="aside")
    thread.start()
    thread.join()
    assert "on the thread aside" in str(raised[0])


def test_a_system_without_run_touches_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    lamp_class = lamp_of(Style.ASYNC)

    def never(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("a signal was touched")

    async def main() -> None:
        before = handlers()
        with monkeypatch.context() as patch:
            for name in ("signal", "set_wakeup_fd", "siginterrupt"):
                patch.setattr(signal, name, never)
            patch.setattr(asyncio.get_running_loop(), "add_signal_handler", never)
            async with ActorSystem(lamp_class, services=Script(), trace=None) as system:
                await system.spawn(lamp_class, "lamp")
                assert await system.ask("lamp", Count()) == 1
                assert await asyncio.wrap_future(system.threadsafe.ask("lamp", Count())) == 2
                assert handlers() == before
        assert handlers() == before

    asyncio.run(main())
