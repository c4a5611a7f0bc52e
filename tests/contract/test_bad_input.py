"""Bad input: each is a typed error at whoever sent it, and nothing is lost, begun or left behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from actorfsm import (
    ActorFSMError,
    Event,
    HookFailed,
    InvalidData,
    InvalidEvent,
    Machine,
    MachineExists,
    NoSuchMachine,
    StaleTurn,
    SystemStopping,
    WrongThread,
    transition,
)
from tests.contract.puppet import STYLES, Do, Eager, Hold, LetGo, Never, Plain, S, Suspending

pytestmark = pytest.mark.rule("C10")
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])
ASYNC = pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])


@pytest.fixture
def run(system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    def do(puppet: type[Any], scenario: Callable[..., Any], **options: Any) -> None:
        async def main() -> None:
            scripts: dict[Any, Any] = {}
            async with system_of(puppet, services=scripts, **options) as system:
                await system.spawn(puppet, "a")
                await scenario(system, scripts)
                assert system.stats().balance == 0
            assert system.stats().balance == 0

        sim(main)

    return do


def in_thread(
    function: Callable[[], Any], context: contextvars.Context | None = None
) -> BaseException | None:
    """Run the function in a real thread, to its end; return what it raised."""
    raised: list[BaseException | None] = [None]

    def body() -> None:
        try:
            function() if context is None else context.run(function)
        except BaseException as error:  # noqa: BLE001 -- handed over to the test
            raised[0] = error

    thread = threading.Thread(target=body, name="stranger")
    thread.start()
    thread.join(10)
    return raised[0]


# -- unknown, twice, too late ----------------------------------------------------------------------------------------


@ALL
def test_an_unknown_id_is_no_such_machine_and_nothing_is_created(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        with pytest.raises(NoSuchMachine) as caught:
            await system.ask("b", Do(n=1))
        assert (caught.value.machine_id, caught.value.event) == ("b", Do(n=1))
        assert "spawn it" in str(caught.value)
        with pytest.raises(NoSuchMachine):
            await system.tell("b", Do(n=1))
        for look in (
            lambda: system.snapshot("b"),
            lambda: system.ref(puppet, "b").snapshot(),
            lambda: system.release("b"),
        ):
            with pytest.raises(NoSuchMachine):
                look()
        with pytest.raises(NoSuchMachine):
            await system.stop("b")
        assert system.ids() == ["a"]

    run(puppet, scenario)


@ALL
def test_a_ref_to_an_unknown_id_works_once_the_machine_is_there(
    puppet: Any, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        ref = system.ref(puppet, "b")
        with pytest.raises(NoSuchMachine):
            await ref.ask(Do())
        assert await system.spawn(puppet, "b") == ref
        await ref.ask(Do(n=1))
        assert ref.snapshot().data["done"] == (1,)

    run(puppet, scenario)


@ALL
def test_a_duplicate_spawn_is_refused_and_changes_nothing(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        await system.ask("a", Do(n=1))
        with pytest.raises(MachineExists) as caught:
            await system.spawn(puppet, "a", data={"done": (7,)})
        assert caught.value.machine_id == "a"
        ends = await asyncio.gather(*(system.spawn(puppet, "b") for _ in range(3)), return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["MachineExists", "MachineExists", "Ref"]
        assert system.snapshot("a").data["done"] == (1,)

    run(puppet, scenario)


@ALL
def test_data_that_does_not_validate_gives_birth_to_nothing(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        for data in ({"done": "secret"}, {"unknown": 1}, {"done": (1, "x")}):
            with pytest.raises(InvalidData) as caught:
                await system.spawn(puppet, "b", data=data)
            assert "secret" not in str(caught.value)
        assert system.ids() == ["a"]
        await system.spawn(puppet, "b", data={"done": (1,)})

    run(puppet, scenario)


@ALL
def test_after_the_stop_every_call_says_so(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        system = system_of(puppet)
        with pytest.raises(SystemStopping):
            await system.ask("a", Do())
        with pytest.raises(SystemStopping):
            system.tell("a", Do())
        async with system:
            ref = await system.spawn(puppet, "a")
        for late in (
            lambda: ref.ask(Do(n=1)),
            lambda: system.ask("a", Do(n=1)),
            lambda: system.ask("b", Do(n=1)),
            lambda: system.spawn(puppet, "b"),
            lambda: system.get_or_spawn(puppet, "b"),
            lambda: ref.tell(Do(n=1)).accepted(),
            lambda: ref.tell(Do(n=1)).outcome(),
        ):
            with pytest.raises(SystemStopping):
                await late()
        with pytest.raises(SystemStopping):
            async with system:
                pass
        assert len(system.dead_letters) == 2
        assert system.stats().balance == 0

    sim(scenario)


@ASYNC
def test_an_event_that_comes_while_the_system_stops_is_refused_and_those_before_are_finished(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def slow(machine: Any) -> str:
            await asyncio.sleep(5)
            return "slow"

        async with system_of(puppet, services={"slow": slow}) as system:
            await system.spawn(puppet, "a")
            first = asyncio.create_task(system.ask("a", Do(script="slow")))
            await asyncio.sleep(1)
            stopping = asyncio.create_task(system.shutdown())
            await asyncio.sleep(1)
            with pytest.raises(SystemStopping):
                await system.ask("a", Do())
            with pytest.raises(SystemStopping):
                await system.tell("a", Do())
            assert await first == "slow"
            assert (await stopping).finished

    sim(scenario)


# -- another thread --------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
def test_another_thread_is_refused_at_once_and_told_what_to_do(
    puppet: Any, idle: bool, run: Callable[..., None]
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        ref = system.ref(puppet, "a")
        await ref.ask(Hold())
        if not idle:
            system.tell("a", LetGo())
        before = system.stats()
        for call in (
            lambda: ref.tell(Do()),
            lambda: ref.tell(Do(), callback=print, reply_to="a", event_id="x"),
            lambda: system.tell("nobody", Do()),
            lambda: ref.request_transition(S.BLUE),
            lambda: asyncio.run(ref.ask(Do())),
            lambda: asyncio.run(system.ask("a", Do(), event_id="x")),
            lambda: asyncio.run(system.spawn(puppet, "b")),
            lambda: asyncio.run(system.get_or_spawn(puppet, "b")),
            lambda: asyncio.run(system.stop("a")),
            lambda: system.release("a"),
        ):
            error = in_thread(call)
            assert isinstance(error, WrongThread), error
            assert "stranger" in str(error)
            assert "system.threadsafe" in str(error)
        assert system.stats() == before
        assert system.dead_letters == ()

    run(puppet, scenario)


@ASYNC
def test_a_thread_that_a_hook_started_is_another_thread_too(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        errors: list[Any] = []

        async def hook(machine: Any) -> None:
            context = contextvars.copy_context()
            calls = (
                lambda: system.tell("a", Do()),
                lambda: asyncio.run(system.ask("a", Do())),
                lambda: machine.tell("a", Do()),
                lambda: asyncio.run(machine.ask("a", Do())),
            )
            errors.extend(in_thread(call, context) for call in calls)

        scripts["hook"] = hook
        await system.ask("a", Do(script="hook"))
        assert [type(error) for error in errors] == [WrongThread] * 4
        assert system.stats().accepted == 2

    run(puppet, scenario)


@ALL
def test_looking_from_another_thread_is_refused_while_the_system_runs(
    puppet: Any, run: Callable[..., None]
) -> None:
    systems: list[Any] = []

    async def scenario(system: Any, scripts: Any) -> None:
        systems.append(system)
        receipt = system.tell("a", Do())
        for look in (
            lambda: system.snapshot("a"),
            lambda: system.ref(puppet, "a").snapshot(),
            system.stats,
            system.ids,
            system.quarantined,
            lambda: system.dead_letters,
            lambda: system.dead_letters_for("a"),
            system.suspended,
            lambda: system.last_crash("a"),
            lambda: asyncio.run(system.shutdown()),
            lambda: asyncio.run(receipt.accepted()) and asyncio.run(receipt.outcome()),
            lambda: asyncio.run(receipt.outcome()),
        ):
            error = in_thread(look)
            assert isinstance(error, WrongThread), error
            assert "stranger" in str(error)
            assert "system.threadsafe" in str(error)
        assert (await receipt).success

    run(puppet, scenario)
    system = systems[-1]
    seen: list[Any] = []
    assert in_thread(lambda: seen.extend([system.stats(), system.ids(), system.dead_letters])) is None
    assert seen == [system.stats(), system.ids(), ()]


# -- payloads --------------------------------------------------------------------------------------------------------


class Pay(Event):
    amount: Decimal
    share: float = 0.0
    note: Any = None


@pytest.mark.parametrize(
    "text",
    [
        '{"amount": NaN}',
        '{"amount": "NaN"}',
        '{"amount": 1, "share": NaN}',
        '{"amount": 1, "share": Infinity}',
        '{"amount": 1, "extra": 2}',
        '{"amount": 1, "note": "' + "x" * 300_000 + '"}',
        '{"amount": 1, "note": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"amount": 1',
        "",
        "null",
        "[]",
        b"\xff\xfe",
        '{"amount": "secret-1234"}',
        '{"amount": 1, "note": "\ud800"}',
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_json_that_is_no_event_is_refused_by_name_and_without_its_content(text: Any) -> None:
    with pytest.raises(InvalidEvent) as caught:
        Pay.from_json(text)
    assert "Pay" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "secret" not in str(caught.value)


def test_a_line_of_just_the_limit_is_read() -> None:
    head, tail = '{"amount": 1, "note": "', '"}'
    text = head + "x" * (256 * 1024 - len(head) - len(tail)) + tail
    assert Pay.from_json(text).amount == 1
    assert Pay.from_json(text.encode()).amount == 1
    with pytest.raises(InvalidEvent, match="262,145 bytes"):
        Pay.from_json(text.replace("x", "xx", 1))
    with pytest.raises(InvalidEvent, match="limit is 10"):
        Pay.from_json('{"amount": 1}', max_bytes=10)


# -- code at the wrong moment ----------------------------------------------------------------------------------------


@ASYNC
@pytest.mark.rule("C13")
def test_what_a_hook_left_behind_may_not_send(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        kept: list[Any] = []

        async def hook(machine: Any) -> None:
            kept.extend([machine, contextvars.copy_context()])

        scripts["hook"] = hook
        await system.ask("a", Do(script="hook"))
        machine, context = kept
        accepted = system.stats().accepted
        with pytest.raises(StaleTurn):
            context.run(system.tell, "a", Do())
        for late in (system.ask("a", Do()), system.spawn(puppet, "b"), machine.ask("a", Do())):
            with pytest.raises(StaleTurn):
                await asyncio.get_running_loop().create_task(late, context=context)
        with pytest.raises(StaleTurn):
            machine.tell("a", Do())
        with pytest.raises(StaleTurn):
            machine.next_event(Do())
        assert system.stats().accepted == accepted

    run(puppet, scenario)


@ALL
@pytest.mark.rule("C3")
def test_a_hook_that_returns_three_is_a_failure_and_no_veto(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        for place in ("before", "exit", "enter"):
            scripts["three", place] = lambda machine: 3
            with pytest.raises(HookFailed, match="returned int") as caught:
                await system.ask("a", Do(script="three"))
            assert isinstance(caught.value.__cause__, TypeError)
            del scripts["three", place]
        assert system.snapshot("a").seq == 1

    run(puppet, scenario)


@ALL
def test_every_refusal_carries_the_machine_and_the_event(puppet: Any, run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        def fail(machine: Any) -> None:
            raise ValueError("broken")

        scripts["fail"] = fail
        for machine_id, event in (("a", Do(script="fail")), ("b", Do()), ("a", Pay(amount=1)), ("a b", Do())):
            with pytest.raises(ActorFSMError) as caught:
                await system.ask(machine_id, event)
            if machine_id != "a b":
                assert (caught.value.machine_id, caught.value.event) == (machine_id, event)
            assert "amount" not in str(caught.value)  # payloads may hold secrets

    run(puppet, scenario)


def test_a_machine_that_only_events_give_birth_to_cannot_be_spawned(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Account(Machine[S], final=tuple(S)):
        @transition(to=S.RED)
        async def open(self, event: Hold) -> None: ...

        @transition(to=S.BLUE)
        async def open_blue(self, event: LetGo) -> None: ...

        @transition(to=S.HELD)
        async def open_held(self, event: Never) -> None: ...

        @transition(to=S.END)
        async def open_ended(self, event: Pay) -> None: ...

    async def scenario() -> None:
        async with system_of(Account) as system:
            for spawn in (system.spawn, system.get_or_spawn):
                with pytest.raises(
                    InvalidEvent, match="no initial state: it is born by Hold, LetGo, Never, Pay"
                ):
                    await spawn(Account, "a")
            await system.ask("a", Hold())
            assert (await system.get_or_spawn(Account, "a")).snapshot().state is S.RED

    sim(scenario)


def test_a_system_needs_machines_and_says_which_it_has(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    from actorfsm import DefinitionError

    with pytest.raises(DefinitionError, match="at least one"):
        system_of()

    async def scenario() -> None:
        async with system_of(Plain) as system:
            for call in (lambda: system.ref(Eager, "a"), lambda: system.ids(Eager)):
                with pytest.raises(DefinitionError, match="Plain"):
                    call()
            with pytest.raises(DefinitionError, match="Plain"):
                await system.spawn(Eager, "a")
            with pytest.raises(ActorFSMError, match="'finish' or 'abandon'"):
                await system.shutdown(queues="later")

    sim(scenario)
