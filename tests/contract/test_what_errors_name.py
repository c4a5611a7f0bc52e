"""Each error names the machine and carries the event that it is about, so that whoever catches it can act."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    AskTimeout,
    Directive,
    Discarded,
    Event,
    EventIdConflict,
    Expired,
    HookFailed,
    InvalidEvent,
    Limits,
    Machine,
    MachineExists,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    Quarantined,
    ReadOnly,
    RestartPolicy,
    StaleTurn,
    SystemFailed,
    SystemStopping,
    Unhandled,
    Vetoed,
    WrongThread,
    after_transition,
    before_transition,
    postpone,
    transition,
)
from actorfsm.runtime import perform
from tests.contract.test_bad_input import in_thread

pytestmark = pytest.mark.rule("C10")


class S(Enum):
    A = auto()
    B = auto()


class Do(Event[Any]):
    script: str = ""
    n: int = 0


class Later(Event):
    n: int = 0


class Hold(Event):
    pass


class Fail(Event):
    n: int = 0


class Other(Event):
    pass


class Begin(Event):
    pass


class Worker(
    Machine[S],
    initial=S.A,
    on_failure={ValueError: Directive.RESTART},
    restart=RestartPolicy(max_restarts=0),
    postpone_limit=1,
    own_event_limit=2,
    mailbox=MailboxPolicy(capacity=1),
    hook_timeout=1000,
):
    @before_transition
    async def check(self, old: S, new: S, event: Event) -> bool | None:
        return getattr(event, "n", 0) != 13

    @transition(S.A, S.B, to=STAY)
    async def do(self, event: Do) -> Any:
        script = (self.services or {}).get(event.script)
        return None if script is None else await script(self)

    @postpone(S.A)
    @transition(S.B, to=S.A)
    async def later(self, event: Later) -> None: ...

    @transition(S.A, to=S.B)
    async def hold(self, event: Hold) -> None: ...

    @transition(S.A, S.B, to=STAY)
    async def fail(self, event: Fail) -> None:
        raise ValueError("broken")

    @after_transition
    async def look(self, old: S, new: S, event: Event) -> None:
        script = (self.services or {}).get("after")
        if script is not None and isinstance(event, Hold):
            await script(self)


class Waiting(Worker, mailbox=MailboxPolicy(capacity=1, overflow=Overflow.WAIT, wait_timeout_s=2)): ...


class Born(Machine[S]):
    @transition(to=S.A)
    async def begin(self, event: Begin) -> None: ...

    @transition(S.A, to=S.B)
    async def hold(self, event: Hold) -> None: ...

    @transition(S.B, to=S.A)
    async def go(self, event: Hold) -> None: ...


async def refused(error_class: type[Any], awaitable: Any) -> Any:
    """Await what must fail, and return the error."""
    with pytest.raises(error_class) as caught:
        await awaitable
    return caught.value


def about(error: Any) -> tuple[str | None, Any]:
    return error.machine_id, error.event


@pytest.fixture
def run(system_of: Callable[..., Any], sim: Callable[..., None]) -> Callable[..., None]:
    def do(scenario: Callable[..., Any], **options: Any) -> None:
        async def main() -> None:
            scripts: dict[str, Any] = {}
            async with system_of(Worker, Waiting, Born, services=scripts, **options) as system:
                await system.spawn(Worker, "w")
                await scenario(system, scripts)
                assert system.stats().balance == 0

        sim(main)

    return do


async def nap(machine: Any) -> None:
    await asyncio.sleep(100)


def test_who_is_refused_at_the_door_is_told_for_which_machine_and_event(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        assert about(await refused(NoSuchMachine, system.ask("x", Do(n=1)))) == ("x", Do(n=1))
        assert about(await refused(InvalidEvent, system.ask("w", Other()))) == ("w", Other())
        assert about(await refused(InvalidEvent, system.ask("w", "do"))) == ("w", "do")
        assert (await refused(InvalidEvent, system.ask("x", "do"))).machine_id == "x"
        assert (await refused(InvalidEvent, system.spawn(Born, "b"))).machine_id == "b"
        assert (await refused(MachineExists, system.spawn(Worker, "w"))).machine_id == "w"
        with pytest.raises(NoSuchMachine) as caught:
            system.snapshot("x")
        assert caught.value.machine_id == "x"
        outcome = await system.tell("w", Do())
        with pytest.raises(InvalidEvent) as wrong:
            system.tell("w", outcome, reply_to="w")
        assert wrong.value.event == outcome
        await system.ask("w", Do(n=1), event_id="mine")
        assert about(await refused(EventIdConflict, system.ask("w", Do(n=2), event_id="mine"))) == (
            "w",
            Do(n=2),
        )
        stranger = in_thread(lambda: system.tell("w", Do(n=3)))
        assert type(stranger) is WrongThread
        assert stranger.event == Do(n=3)

    run(scenario)


def test_who_comes_after_the_end_of_the_system_is_told_for_which_machine_and_event(
    system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with system_of(Worker) as system:
            await system.spawn(Worker, "w")
        assert about(await refused(SystemStopping, system.ask("w", Do(n=1)))) == ("w", Do(n=1))
        assert about(await refused(SystemStopping, system.tell("w", Do(n=2)))) == ("w", Do(n=2))

    sim(scenario)


def test_who_meets_a_fault_of_the_runtime_is_told_for_which_machine_and_event(
    system_of: Callable[..., Any], sim: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask_until_it_fails() -> None:
        async with system_of(Worker, services={}) as system:
            await system.spawn(Worker, "w")
            monkeypatch.setattr(perform, "committed", broken)
            struck = await refused(SystemFailed, system.ask("w", Do(n=1)))
            monkeypatch.undo()
            assert about(struck) == ("w", Do(n=1))
            assert type(struck.__cause__) is ZeroDivisionError
            after = await refused(SystemFailed, system.ask("w", Do(n=2)))
            assert about(after) == ("w", Do(n=2))
            assert type(after.__cause__) is ZeroDivisionError

    async def scenario() -> None:
        await refused(SystemFailed, ask_until_it_fails())

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError

    sim(scenario)


def test_who_finds_no_room_is_told_for_which_machine_and_event(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["nap"] = nap
        busy = system.tell("w", Do(script="nap"))
        await asyncio.sleep(1)
        waits = system.tell("w", Do(n=1))
        assert about(await refused(MailboxFull, system.ask("w", Do(n=2)))) == ("w", Do(n=2))
        assert about(await refused(MailboxFull, system.tell("w", Do(n=3)))) == ("w", Do(n=3))
        await busy
        await waits
        await system.spawn(Waiting, "v")
        busy = system.tell("v", Do(script="nap"))
        await asyncio.sleep(1)
        waits = system.tell("v", Do(n=1))
        late = system.tell("v", Do(n=4))
        assert about(await refused(MailboxFull, late)) == ("v", Do(n=4))
        await busy
        await waits

    run(scenario)


def test_who_finds_too_many_asks_pending_is_told_for_which_machine_and_event(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["nap"] = nap
        pending = asyncio.ensure_future(system.ask("w", Do(script="nap"), timeout=200))
        await asyncio.sleep(1)
        assert about(await refused(MailboxFull, system.ask("w", Do(n=2)))) == ("w", Do(n=2))
        refusals = system.stats().refused
        assert refusals == 1
        await pending

    run(scenario, limits=Limits(pending_asks=1))


def test_whose_time_is_over_is_told_for_which_machine_and_event(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["nap"] = nap
        late = asyncio.ensure_future(refused(AskTimeout, system.ask("w", Do(script="nap"), timeout=2)))
        await asyncio.sleep(1)
        unbegun = await refused(Expired, system.ask("w", Do(n=1), timeout=3))
        assert about(unbegun) == ("w", Do(n=1))
        late = await late
        assert about(late) == ("w", Do(script="nap"))
        assert "after 2 s" in str(late)
        await asyncio.sleep(200)
        first = asyncio.ensure_future(system.ask("w", Do(script="nap", n=5), event_id="e", timeout=200))
        await asyncio.sleep(1)
        twin = await refused(AskTimeout, system.ask("w", Do(script="nap", n=5), event_id="e", timeout=2))
        assert about(twin) == ("w", Do(script="nap", n=5))
        await first

    run(scenario)


def test_whose_event_was_refused_or_failed_is_told_for_which_machine_and_event(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["fails"] = fails
        failed = await refused(HookFailed, system.ask("w", Do(script="fails")))
        assert about(failed) == ("w", Do(script="fails"))
        held = system.tell("w", Later(n=1))
        await asyncio.sleep(1)
        full = await refused(MailboxFull, system.ask("w", Later(n=2)))
        assert about(full) == ("w", Later(n=2))
        await system.ask("w", Hold())
        assert (await held).kind == "committed"
        await system.ask("w", Hold())
        vetoed = await refused(Vetoed, system.ask("w", Later(n=13)))
        assert about(vetoed) == ("w", Later(n=13))
        assert (vetoed.by, vetoed.reason) == ("check", "")
        nothing = await refused(Unhandled, system.ask("w", Hold()))
        assert about(nothing) == ("w", Hold())
        assert (nothing.state, nothing.guards) == (S.B, ())

    async def fails(machine: Any) -> None:
        raise KeyError(1)

    run(scenario)


def test_whose_machine_was_quarantined_or_stopped_is_told_for_which_machine_and_event(
    run: Callable[..., None],
) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        scripts["nap"] = nap
        await system.spawn(Waiting, "v")
        system.tell("v", Do(script="nap"))
        await asyncio.sleep(1)
        system.tell("v", Fail(n=1))
        waits = asyncio.ensure_future(refused(Quarantined, system.ask("v", Do(n=2), timeout=500)))
        await asyncio.sleep(1)
        told = system.tell("v", Do(n=3), timeout=500)
        assert about(await waits) == ("v", Do(n=2))
        assert about(await refused(Quarantined, system.ask("v", Do(n=4)))) == ("v", Do(n=4))
        system.release("v", discard=True)
        assert about(await refused(Quarantined, told)) == ("v", Do(n=3))
        busy = asyncio.ensure_future(system.ask("w", Do(script="nap"), timeout=500))
        await asyncio.sleep(1)
        behind = asyncio.ensure_future(refused(MachineStopped, system.ask("w", Do(n=5), timeout=500)))
        await asyncio.sleep(1)
        await system.stop("w")
        await busy
        assert about(await behind) == ("w", Do(n=5))

    run(scenario)


def test_what_a_hook_may_not_do_names_the_machine_and_the_event(run: Callable[..., None]) -> None:
    async def scenario(system: Any, scripts: Any) -> None:
        caught: dict[str, Any] = {}

        async def tells_afterwards(machine: Any) -> None:
            try:
                machine.tell("w", Do())
            except ReadOnly as error:
                caught["read only"] = error

        async def raises_three(machine: Any) -> None:
            for n in range(3):
                machine.next_event(Do(n=n))

        async def is_kept(machine: Any) -> None:
            caught["self"] = machine

        async def tells_in_vain(machine: Any) -> None:
            caught["receipt"] = machine.tell("x", Do(n=9))
            raise KeyError(1)

        async def leaves_a_task(machine: Any) -> None:
            async def later() -> None:
                try:
                    await asyncio.sleep(5)
                finally:
                    try:
                        system.tell("w", Do(n=8))
                    except StaleTurn as error:
                        caught["stale"] = error

            caught["task"] = asyncio.ensure_future(later())
            await asyncio.sleep(1)

        scripts.update(
            {
                "after": tells_afterwards,
                "three": raises_three,
                "kept": is_kept,
                "vain": tells_in_vain,
                "task": leaves_a_task,
            }
        )
        await system.ask("w", Hold())
        assert about(caught["read only"]) == ("w", Hold())
        failed = await refused(HookFailed, system.ask("w", Do(script="three")))
        assert about(failed.__cause__) == ("w", Do(n=2))
        await system.ask("w", Do(script="kept"))
        with pytest.raises(StaleTurn) as stale:
            caught["self"].tell("w", Do())
        assert "tell" in str(stale.value)
        await refused(HookFailed, system.ask("w", Do(script="vain")))
        assert about(await refused(Discarded, caught["receipt"])) == ("x", Do(n=9))
        await system.ask("w", Do(script="task"))
        await asyncio.sleep(1)
        assert about(caught["stale"]) == ("w", Do(n=8))

    run(scenario)
