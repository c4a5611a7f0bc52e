"""C30, C13: a machine's lines carry its own ids, and never the context variables of whoever sent it something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from actorfsm import (
    Directive,
    HookFailed,
    Limits,
    Machine,
    MailboxPolicy,
    Outcome,
    Overflow,
    RestartPolicy,
    on_enter,
    transition,
)
from actorfsm.sinks import StructlogSink
from tests.contract.lamp import Birth, Count, Later, Reset, State, Stubborn, Switch, lamp_of, raising, times
from tests.contract.paths import Path, Script, Style, on_every_async_path, on_every_path

pytestmark = [pytest.mark.rule("C30"), pytest.mark.rule("C13")]


class Log(list[dict[str, Any]]):
    """A structlog sink whose lines are kept, with the context variables that were merged into them."""

    def __init__(self) -> None:
        chain = [structlog.contextvars.merge_contextvars, self._keep]
        self.sink = StructlogSink(logger=structlog.wrap_logger(None, processors=chain))

    def _keep(self, logger: Any, method: str, line: dict[str, Any]) -> dict[str, Any]:
        self.append(dict(line))
        raise structlog.DropEvent

    def assert_clean(self, *names: str) -> None:
        assert {line["event"] for line in self} >= set(names)
        for line in self:
            assert "request" not in line, line


@pytest.fixture(autouse=True)
def _no_variables_of_other_tests() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


@on_every_path
def test_no_line_carries_the_variables_of_a_request_whatever_it_asked_for(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        log, seen = Log(), []
        script = Script(
            count=lambda machine: seen.append(dict(get_contextvars())),
            after=raising(ValueError),
        )
        lamp_class = lamp_of(
            path.style,
            on_failure={KeyError: Directive.RESTART, LookupError: Directive.STOP},
            restart=RestartPolicy(max_restarts=1, within_s=100, jitter=0),
            mailbox=MailboxPolicy(capacity=3),
        )

        def callback(outcome: Outcome) -> None:
            seen.append(dict(get_contextvars()))
            raise ValueError

        def tell_operator(machine_id: str, cause: BaseException) -> None:
            seen.append(dict(get_contextvars()))

        async with path.system(
            lamp_class, services=script, trace=log.sink, on_quarantine=tell_operator
        ) as system:
            bind_contextvars(request="request-1")
            lamp = await system.spawn(lamp_class, "lamp")
            await system.ask("born", Birth())
            await lamp.ask(Count())
            await lamp.tell(Count(), callback=callback).outcome()
            await lamp.ask(Switch())
            await lamp.ask(Reset())
            await lamp.ask(Count(), event_id="once")
            await lamp.ask(Count(), event_id="once")
            system.tell("nobody", Count())
            for _ in range(5):
                lamp.tell(Count())
            await asyncio.sleep(0.1)
            with pytest.raises(Exception, match="deadline"):
                await lamp.ask(Later(), timeout=1)
            script.does["body"] = raising(KeyError)
            for _ in range(2):
                with pytest.raises(HookFailed):
                    await lamp.ask(Switch())
            lamp.tell(Count())
            system.release("lamp")
            script.does["body"] = raising(IndexError)
            with pytest.raises(HookFailed):
                await lamp.ask(Switch())
            await system.stop("born")
        log.assert_clean(
            *("committed", "failed", "expired", "dead_lettered", "after_hook_failed", "callback_failed"),
            *("restarted", "quarantined", "released", "stopped"),
        )
        assert seen == [{}] * len(seen)
        assert len(seen) > 5
        assert get_contextvars() == {"request": "request-1"}
        clear_contextvars()

    sim(scenario)


@on_every_path
def test_two_requests_at_once_do_not_see_each_other(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        log = Log()
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script(), trace=log.sink) as system:
            lamp = await system.spawn(lamp_class, "lamp")

            async def request(name: str) -> None:
                bind_contextvars(request=name)
                for _ in range(5):
                    await lamp.ask(Count(), headers={"correlation_id": name})
                    assert get_contextvars() == {"request": name}

            await asyncio.gather(*(request(f"request-{n}") for n in range(5)))
        log.assert_clean("committed")
        counted = [line["correlation_id"] for line in log if line["event_type"] == "Count"]
        assert sorted(counted) == sorted([f"request-{n}" for n in range(5)] * 5)

    sim(scenario)


@on_every_path
def test_what_a_hook_binds_is_on_its_own_event_at_most(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        log = Log()

        def bind_once(machine: Any) -> None:
            if machine.id == "lamp" and machine.count == 1:
                bind_contextvars(request="mine")

        script = Script(count=bind_once)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=script, trace=log.sink) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            other = await system.spawn(lamp_class, "other")
            receipts = [lamp.tell(Count()), lamp.tell(Count()), other.tell(Count())]
            for receipt in receipts:
                await receipt.outcome()
            await lamp.ask(Count())
        carriers = [line["event_id"] for line in log if "request" in line]
        assert carriers == [receipts[0].event_id]
        assert get_contextvars() == {}

    sim(scenario)


@on_every_async_path
def test_the_line_of_a_hook_left_behind_carries_nothing_of_the_hook_that_armed_the_clock(
    path: Path, sim: Callable[..., None]
) -> None:
    """The deadline of the second hook is watched by a timer that the first one's turn has set, after it bound."""

    class Binding(Machine[State], initial=State.OFF, final=(State.ON,), hook_timeout=100):
        @transition(State.OFF, to=State.ON)
        @path.style
        def switch(self, event: Switch) -> str:
            bind_contextvars(request="first")
            return "on"

        @on_enter(State.ON, timeout=1)
        @path.style
        def enter(self, old: State, new: State) -> Any:
            return asyncio.sleep(0.9)

    async def scenario() -> None:
        log, stubborn = Log(), Stubborn()
        lamp_class = lamp_of(path.style)
        limits, script = Limits(grace_s=0.5), Script(count=stubborn)
        async with path.system(Binding, lamp_class, services=script, trace=log.sink, limits=limits) as system:
            binding = await system.spawn(Binding, "binding")
            lamp = await system.spawn(lamp_class, "lamp")
            switched = binding.tell(Switch())
            await asyncio.sleep(0.5)
            hanging = lamp.tell(Count())
            for receipt in (switched, hanging):
                await receipt.outcome()
            await stubborn.let_go()
        carriers = [line["event_id"] for line in log if "request" in line]
        assert carriers == [switched.event_id]
        [left_behind] = [line for line in log if line.get("event_id") == hanging.event_id]
        assert left_behind["event"] == "failed"

    sim(scenario)


@on_every_path
def test_an_event_that_waits_for_room_carries_nothing_in_with_it(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        log = Log()
        policy = MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=1)
        lamp_class = lamp_of(path.style, mailbox=policy, on_failure={ValueError: Directive.RESTART})
        script = Script(count=times(1, raising(ValueError)))
        async with path.system(lamp_class, services=script, trace=log.sink) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            bind_contextvars(request="request-1")
            receipts = [lamp.tell(Count()) for _ in range(5)]
            for receipt in receipts:
                await receipt.outcome()
        log.assert_clean("committed", "failed", "restarted")
        clear_contextvars()

    sim(scenario)


def test_the_clean_context_holds_on_the_path_of_an_ask_that_needs_no_task(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path, log = Path(Style.PLAIN, inline=True), Log()
        lamp_class = lamp_of(Style.PLAIN)
        async with path.system(lamp_class, services=Script(), trace=log.sink) as system:
            bind_contextvars(request="request-1")
            await system.spawn(lamp_class, "lamp")
            await system.ask("lamp", Count())
            path.assert_taken(system, 2)
        log.assert_clean("committed")
        clear_contextvars()

    sim(scenario)
