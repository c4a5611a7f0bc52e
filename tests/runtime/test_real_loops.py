"""Small programs on the loops that people run: asyncio and uvloop. What is simulated elsewhere is real here."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine
from decimal import Decimal
from enum import StrEnum, auto
from typing import Any

import pytest

import actorfsm
from actorfsm import (
    STAY,
    ActorSystem,
    AskTimeout,
    Event,
    Expired,
    HookFailed,
    Limits,
    Machine,
    StateTimeout,
    SystemStopping,
    Veto,
    Vetoed,
    before_transition,
    on_enter,
    on_timeout,
    postpone,
    transition,
)
from tests.contract.lamp import Count, Switch, lamp_of
from tests.contract.paths import ASYNC_PATHS, PATHS, Path, Script, at_rest

Program = Callable[[], Coroutine[Any, Any, None]]


def _loops() -> list[Any]:
    made: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:  # pragma: no cover -- it is not made for this Python or system
        return made
    return [*made, pytest.param(uvloop.new_event_loop, id="uvloop")]


@pytest.fixture(params=_loops())
def really(request: pytest.FixtureRequest) -> Callable[[Program], None]:
    """Run a program on a real loop; it must leave no task, no thread and no unretrieved failure."""

    def run(program: Program) -> None:
        failures: list[dict[str, Any]] = []
        threads = set(threading.enumerate())

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: failures.append(context))
            factory = loop.get_task_factory()
            await program()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert loop.get_task_factory() is factory

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with asyncio.Runner(loop_factory=request.param) as runner:
                runner.run(main())
        assert failures == []
        assert set(threading.enumerate()) <= threads

    return run


class OrderState(StrEnum):
    CREATED = auto()
    PAYING = auto()
    SHIPPED = auto()


class Pay(Event[str]):
    amount: Decimal


class Ship(Event):
    """Postponed until it is paid."""


class Order(Machine[OrderState], initial=OrderState.CREATED, final=(OrderState.SHIPPED,)):
    paid: Decimal = Decimal(0)

    @before_transition
    async def risk_control(self, old: OrderState, new: OrderState) -> bool:
        await asyncio.sleep(0)
        return True

    @transition(OrderState.CREATED, to=OrderState.PAYING)
    async def pay(self, event: Pay) -> str:
        self.paid += event.amount
        return f"R-{self.id}"

    @on_enter(OrderState.PAYING)
    async def charge(self, old: OrderState, new: OrderState, event: Pay) -> None:
        await asyncio.sleep(0.001)
        if event.amount > 100:
            raise Veto("card declined")

    @postpone(OrderState.CREATED)
    @transition(OrderState.PAYING, to=OrderState.SHIPPED)
    async def ship(self, event: Ship) -> None: ...


def test_an_order_is_paid_and_shipped(really: Callable[[Program], None], inline: bool) -> None:
    async def program() -> None:
        heard: list[str] = []
        async with ActorSystem(Order, trace=None, inline=inline) as system:
            order = await system.get_or_spawn(Order, "order-42")
            early = order.tell(Ship(), callback=lambda outcome: heard.append(outcome.kind))
            with pytest.raises(Vetoed, match="card declined"):
                await order.ask(Pay(amount=Decimal(101)))
            for _ in range(2):
                assert await order.ask(Pay(amount=Decimal("9.90")), event_id="p-1") == "R-order-42"
            assert (await early).success
            assert order.snapshot().state is OrderState.SHIPPED
            assert order.snapshot().data == {"paid": Decimal("9.90")}
        assert heard == ["committed"]
        assert system.report is not None
        assert (system.report.finished, system.report.unstopped) == (True, ())
        assert system.stats().balance == 0

    really(program)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_each_path_is_taken(really: Callable[[Program], None], path: Path) -> None:
    lamp_class = lamp_of(path.style)

    async def program() -> None:
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await at_rest(system)
            assert await lamp.ask(Switch()) == "on"
            await at_rest(system)
            for n in range(1, 20):
                assert await lamp.ask(Count()) == n + 1
                await at_rest(system)
            path.assert_taken(system, 21)

    really(program)


def test_many_senders_at_a_time_get_their_own_answers(
    really: Callable[[Program], None], inline: bool
) -> None:
    lamp_class = lamp_of(ASYNC_PATHS[-1].style)

    async def program() -> None:
        async with ActorSystem(lamp_class, services=Script(), trace=None, inline=inline) as system:
            for n in range(20):
                await system.spawn(lamp_class, f"lamp-{n}")

            async def sender(n: int) -> list[int]:
                return [await system.ask(f"lamp-{n % 20}", Count()) for _ in range(50)]

            answers = await asyncio.gather(*(sender(n) for n in range(40)))
            for n in range(20):
                assert sorted(answers[n] + answers[n + 20]) == list(range(1, 101))
            assert system.stats().balance == 0

    really(program)


@pytest.mark.parametrize("path", ASYNC_PATHS, ids=str)
def test_deadlines_of_asks_and_hooks_pass_in_real_time(really: Callable[[Program], None], path: Path) -> None:
    lamp_class = lamp_of(path.style, hook_timeout=0.3)

    async def program() -> None:
        script = Script(count=lambda machine: asyncio.sleep(60))
        async with path.system(lamp_class, services=script) as system:
            loop = asyncio.get_running_loop()
            lamp = await system.spawn(lamp_class, "lamp")
            began = loop.time()
            first = asyncio.ensure_future(lamp.ask(Count(), timeout=0.1))
            await asyncio.sleep(0)
            with pytest.raises(Expired):
                await lamp.ask(Count(), timeout=0.05)
            with pytest.raises(AskTimeout):
                await first
            assert round(loop.time() - began, 6) >= 0.1
            with pytest.raises(HookFailed):
                await lamp.ask(Count())
            assert round(loop.time() - began, 6) >= 0.3
            script.does.clear()
            assert await lamp.ask(Count()) == 1
            assert system.stats().balance == 0

    really(program)


def test_a_timer_is_never_early(really: Callable[[Program], None]) -> None:
    class Door(StrEnum):
        OPEN = auto()
        SHUT = auto()

    class Push(Event): ...

    class SelfClosing(Machine[Door], initial=Door.SHUT):
        @transition(Door.SHUT, to=Door.OPEN)
        async def push(self, event: Push) -> None: ...

        @on_timeout(Door.OPEN, after=0.05, to=Door.SHUT)
        async def closes(self, event: StateTimeout) -> None: ...

    async def program() -> None:
        async with ActorSystem(SelfClosing, trace=None) as system:
            door = await system.spawn(SelfClosing, "door")
            loop = asyncio.get_running_loop()
            began = loop.time()
            await door.ask(Push())
            while door.snapshot().state is Door.OPEN:  # noqa: ASYNC110 -- real time passes
                await asyncio.sleep(0.001)
            assert round(loop.time() - began, 6) >= 0.05  # uvloop counts whole milliseconds

    really(program)


def test_threads_ask_and_tell(really: Callable[[Program], None], inline: bool) -> None:
    lamp_class = lamp_of(ASYNC_PATHS[-1].style)

    async def program() -> None:
        async with ActorSystem(lamp_class, services=Script(), trace=None, inline=inline) as system:
            await system.spawn(lamp_class, "lamp")
            answers: list[list[int]] = []

            def work() -> None:
                lamp = system.threadsafe.ref(lamp_class, "lamp")
                told = [lamp.tell(Count()) for _ in range(50)]
                asked = lamp.ask(Count())
                replies = [future.result(20).reply for future in told] + [asked.result(20)]
                answers.append(replies)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110 -- threads have no event of asyncio
                await asyncio.sleep(0.001)
            assert all(replies == sorted(replies) for replies in answers)
            assert sorted(reply for replies in answers for reply in replies) == list(range(1, 205))

    really(program)


def test_a_thread_wakes_a_loop_that_is_asleep(really: Callable[[Program], None]) -> None:
    lamp_class = lamp_of(ASYNC_PATHS[0].style)

    async def program() -> None:
        limits = Limits(blocked_s=0)  # nothing else wakes it
        async with ActorSystem(lamp_class, services=Script(), trace=None, limits=limits) as system:
            await system.spawn(lamp_class, "lamp")
            done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()

            def work() -> None:
                threading.Event().wait(0.05)  # it falls asleep
                began = loop.time()
                system.threadsafe.ask("lamp", Count()).result(20)
                loop.call_soon_threadsafe(done.set_result, loop.time() - began)

            thread = threading.Thread(target=work)
            thread.start()
            assert await done < 5
            thread.join()

    really(program)


@pytest.mark.parametrize("queues", ["finish", "abandon"])
def test_it_stops_under_load_and_answers_everybody(
    really: Callable[[Program], None], inline: bool, queues: str
) -> None:
    lamp_class = lamp_of(ASYNC_PATHS[-1].style)

    async def program() -> None:
        async with ActorSystem(lamp_class, services=Script(), trace=None, inline=inline) as system:
            await system.spawn(lamp_class, "lamp")
            receipts = [system.tell("lamp", Count()) for _ in range(300)]
            report = await system.shutdown(queues=queues)
            kinds = [(await receipt.outcome()).kind for receipt in receipts]
            assert (report.finished, report.abandoned) == (queues == "finish", kinds.count("dead_lettered"))
            assert kinds.count("committed") == report.outcomes["committed"] - 1
            with pytest.raises(SystemStopping):
                await system.ask("lamp", Count())
        assert system.stats().balance == 0

    really(program)


def test_a_program_that_is_cancelled_finishes_its_queues(really: Callable[[Program], None]) -> None:
    lamp_class = lamp_of(ASYNC_PATHS[-1].style)

    async def program() -> None:
        begun = asyncio.Event()
        systems: list[ActorSystem[Any]] = []

        async def main() -> None:
            async with ActorSystem(lamp_class, services=Script(), trace=None) as system:
                systems.append(system)
                await system.spawn(lamp_class, "lamp")
                for _ in range(100):
                    system.tell("lamp", Count())
                begun.set()
                await asyncio.sleep(3600)

        task = asyncio.ensure_future(main())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert systems[0].stats().outcomes["committed"] == 101

    really(program)


class Only(StrEnum):
    ONE = auto()


class Ping(Event[str]): ...


class Echo(Machine[Only], initial=Only.ONE):
    @transition(Only.ONE, to=STAY)
    async def ping(self, event: Ping) -> str:
        return "pong"


@pytest.mark.parametrize("factory", _loops())
def test_run_takes_the_loop(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> str:
        async with ActorSystem(Echo, trace=None) as system:
            return await (await system.spawn(Echo, "echo")).ask(Ping())

    assert actorfsm.run(main, loop_factory=factory) == "pong"
