"""C18: exactly one Terminated per watch, with the reason; none after unwatch and none for a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any, Self

import pytest

from actorfsm import (
    STAY,
    Directive,
    Event,
    HookFailed,
    InvalidEvent,
    Limits,
    Machine,
    MailboxPolicy,
    ReadOnly,
    Record,
    Redelivery,
    RestartPolicy,
    SystemStopping,
    Terminated,
    Unsupported,
    Veto,
    Vetoed,
    after_transition,
    on_enter,
    postpone,
    transition,
)
from tests.contract.paths import PATHS, Path, Style, at_rest, on_every_async_path, on_every_path, until

pytestmark = pytest.mark.rule("C18")


class S(StrEnum):
    UP = auto()
    HELD = auto()
    DONE = auto()


class Act(Event[Any]):
    """Run a function of the test on the machine."""

    script: str = ""


class Finish(Event[None]):
    script: str = ""


class Hold(Event[None]):
    """Terminated is postponed from now on."""


class LetGo(Event[None]):
    script: str = ""


class Born(Event[None]):
    script: str = ""


def guard_of(style: Style, **choices: Any) -> Any:
    class Guard(Machine[S, Any], **({"initial": S.UP, "final": (S.DONE,)} | choices)):
        seen: tuple[str, ...] = ()

        def play(self, name: str) -> Any:
            return self.services[name](self) if name else None

        @transition(S.UP, S.HELD, to=STAY)
        @style
        def act(self, event: Act) -> Any:
            return self.play(event.script)

        @postpone(S.HELD)
        @transition(S.UP, S.DONE, to=STAY)
        @style
        def lost(self, event: Terminated) -> None:
            self.seen = (*self.seen, f"{event.machine_id} {event.incarnation} {event.reason}")
            if "lost" in self.services:
                self.services["lost"](self)

        @transition(S.UP, to=S.HELD)
        @style
        def hold(self, event: Hold) -> None: ...

        @transition(S.HELD, to=S.UP)
        @style
        def let_go(self, event: LetGo) -> None:
            self.play(event.script)

        @transition(S.UP, to=S.DONE)
        @style
        def finish(self, event: Finish) -> None:
            self.play(event.script)

        @transition(to=S.UP)
        @style
        def born(self, event: Born) -> Any:
            return self.play(event.script)

        @after_transition(S.DONE)
        @style
        def after(self, old: S, new: S) -> None:
            if "after" in self.services:
                self.services["after"](self)

    return Guard


def watching(*ids: str) -> Callable[[Any], None]:
    def watch(machine: Any) -> None:
        for machine_id in ids:
            machine.watch(machine_id)

    return watch


def unwatching(*ids: str) -> Callable[[Any], None]:
    def unwatch(machine: Any) -> None:
        for machine_id in ids:
            machine.unwatch(machine_id)

    return unwatch


def watch_and_unwatch(machine: Any) -> None:
    machine.watch("worker")
    machine.unwatch("worker")


def fail(machine: Any) -> None:
    raise ValueError


SCRIPTS: dict[str, Callable[[Any], Any]] = {
    "watch": watching("worker"),
    "unwatch": unwatching("worker"),
    "stop": lambda machine: machine.stop(),
    "fail": fail,
}


class World:
    """A guard and a worker of one class in a system, and the account of it at each record."""

    def __init__(
        self, path: Path, scripts: Any = None, *, limits: Limits | None = None, **choices: Any
    ) -> None:
        self.cls = guard_of(path.style, **choices)
        self.records: list[Record] = []
        self.balances: set[int] = set()
        self.system = path.system(
            self.cls, services=SCRIPTS | (scripts or {}), trace=self.note, limits=limits or Limits()
        )

    def note(self, record: Record) -> None:
        self.records.append(record)

    async def __aenter__(self) -> Self:
        await self.system.__aenter__()
        self.guard = await self.system.spawn(self.cls, "guard")
        self.worker = await self.system.spawn(self.cls, "worker")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.system.__aexit__(*error)
        assert self.system.stats().balance == 0

    async def seen(self) -> tuple[str, ...]:
        """Return what the guard was told, once everything has come to rest."""
        await at_rest(self.system)
        assert self.system.stats().balance == 0
        return self.guard.snapshot().data["seen"]


@on_every_path
@pytest.mark.parametrize("reason", ["finished", "stopped", "stopped itself", "failed"])
def test_each_way_to_end_is_told_once_with_its_reason(
    path: Path, reason: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path, on_failure={ValueError: Directive.STOP}) as world:
            await world.guard.ask(Act(script="watch"))
            assert await world.seen() == ()
            if reason == "finished":
                await world.worker.ask(Finish())
            elif reason == "stopped":
                await world.system.stop("worker")
            elif reason == "stopped itself":
                await world.worker.ask(Act(script="stop"))
            else:
                with pytest.raises(HookFailed):
                    await world.worker.ask(Act(script="fail"))
            assert await world.seen() == (f"worker 0 {reason.split(maxsplit=1)[0]}",)

    sim(scenario)


@on_every_path
def test_a_machine_that_has_finished_stays_addressable_and_its_later_stop_is_not_told_again(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Act(script="watch"))
            await world.worker.ask(Finish(), event_id="the-end")
            assert await world.seen() == ("worker 0 finished",)
            assert world.worker.snapshot().state is S.DONE
            (told,) = [record for record in world.records if record.event_type == "Terminated"]
            assert (told.machine_id, told.causation_id, told.name) == ("guard", "the-end", "committed")
            await world.system.stop("worker")
            assert await world.seen() == ("worker 0 finished",)

    sim(scenario)


@on_every_path
def test_an_id_that_is_dead_or_never_lived_is_told_at_once(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        scripts = {"never": watching("nobody", "nobody")}
        async with World(path, scripts) as world:
            await world.guard.ask(Act(script="never"))
            assert await world.seen() == ("nobody 0 unknown",)
            await world.system.stop("worker")
            await world.guard.ask(Act(script="watch"))
            assert await world.seen() == ("nobody 0 unknown", "worker 0 unknown")
            await world.system.spawn(world.cls, "worker")
            assert len(await world.seen()) == 2

    sim(scenario)


@on_every_path
def test_a_machine_that_has_finished_already_is_told_at_once_as_finished(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.worker.ask(Finish())
            await world.guard.ask(Act(script="watch"))
            assert await world.seen() == ("worker 0 finished",)
            await world.system.stop("worker")
            assert await world.seen() == ("worker 0 finished",)

    sim(scenario)


@on_every_path
def test_watching_twice_is_one_watch_and_a_new_watch_after_the_end_is_another(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        scripts = {"twice": watching("worker", "worker"), "ref": lambda machine: machine.watch(world.worker)}
        async with World(path, scripts) as world:
            for script in ("twice", "watch", "ref"):
                await world.guard.ask(Act(script=script))
            await world.system.stop("worker")
            assert await world.seen() == ("worker 0 stopped",)
            await world.system.spawn(world.cls, "worker")
            await world.guard.ask(Act(script="watch"))
            await world.worker.ask(Finish())
            assert await world.seen() == ("worker 0 stopped", "worker 0 finished")

    sim(scenario)


@on_every_path
def test_nothing_is_told_after_unwatch(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path, {"both": watch_and_unwatch}) as world:
            await world.guard.ask(Act(script="watch"))
            await world.guard.ask(Act(script="unwatch"))
            await world.guard.ask(Act(script="unwatch"))  # nothing to take back: nothing happens
            await world.guard.ask(Act(script="both"))
            await world.system.stop("worker")
            assert await world.seen() == ()
            assert world.system.stats().withdrawn == 0

    sim(scenario)


@on_every_path
def test_a_terminated_that_waits_in_the_mailbox_is_withdrawn_by_unwatch(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Act(script="watch"))
            await at_rest(world.system)
            receipt = world.guard.tell(Act(script="unwatch"))
            behind = world.guard.tell(Act())
            world.worker.tell(Finish())
            await receipt
            await behind
            assert await world.seen() == ()
            # whether it came before or after, exactly one account of it
            assert world.system.stats().withdrawn in {0, 1}

            await world.guard.ask(Hold())
            await world.system.spawn(world.cls, "other")
            await world.guard.ask(Act(script="watch"))  # it has finished: a Terminated is postponed
            await at_rest(world.system)
            before = world.system.stats()
            assert before.postponed == 1
            await world.guard.ask(Act(script="unwatch"))
            after = world.system.stats()
            assert (after.postponed, after.withdrawn) == (0, before.withdrawn + 1)
            assert after.accepted == before.accepted  # one more ask, one withdrawn
            await world.guard.ask(LetGo())
            assert await world.seen() == ()
            assert "dead_lettered" not in {record.name for record in world.records}

    sim(scenario)


@on_every_path
def test_unwatch_in_the_turn_that_lets_it_go_withdraws_it_before_it_is_tried_again(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Act(script="watch"))
            await world.guard.ask(Hold())
            await world.worker.ask(Finish())
            await at_rest(world.system)
            assert world.system.stats().postponed == 1
            await world.guard.ask(LetGo(script="unwatch"))
            assert await world.seen() == ()
            assert world.system.stats().withdrawn == 1

    sim(scenario)


@on_every_path
def test_a_watch_that_is_repeated_while_its_terminated_waits_is_not_told_twice(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Act(script="watch"))
            await world.guard.ask(Hold())
            await world.system.stop("worker")
            await world.guard.ask(Act(script="watch"))
            # a new machine under the same id is another one: its end is told, too
            world.worker = await world.system.spawn(world.cls, "worker")
            await world.guard.ask(Act(script="watch"))
            await world.worker.ask(Finish())
            await world.guard.ask(LetGo())
            assert await world.seen() == ("worker 0 stopped", "worker 0 finished")

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("how", ["fail", "veto"])
def test_a_rollback_drops_watch_and_unwatch(path: Path, how: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        def refuse(machine: Any) -> None:
            raise ValueError if how == "fail" else Veto("no")

        scripts = {
            "watch and": lambda machine: (machine.watch("worker"), refuse(machine)),
            "unwatch and": lambda machine: (machine.unwatch("worker"), refuse(machine)),
        }
        async with World(path, scripts) as world:
            with pytest.raises((HookFailed, Vetoed)):
                await world.guard.ask(Act(script="watch and"))
            await world.system.stop("worker")
            assert await world.seen() == ()
            await world.system.spawn(world.cls, "worker")
            await world.guard.ask(Act(script="watch"))
            with pytest.raises((HookFailed, Vetoed)):
                await world.guard.ask(Act(script="unwatch and"))
            await world.system.stop("worker")
            assert await world.seen() == ("worker 0 stopped",)

    sim(scenario)


@on_every_path
def test_a_restart_is_no_end_neither_of_the_watched_nor_of_the_watcher(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path, on_failure={ValueError: Directive.RESTART}) as world:
            await world.guard.ask(Act(script="watch"))
            for ref in (world.worker, world.guard):
                with pytest.raises(HookFailed):
                    await ref.ask(Act(script="fail"))
            await asyncio.sleep(10)
            assert await world.seen() == ()
            await world.system.stop("worker")
            assert await world.seen() == ("worker 1 stopped",)

    sim(scenario)


@on_every_path
def test_a_quarantine_is_no_end_and_a_quarantined_watcher_is_told_when_it_is_released(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        policy = RestartPolicy(max_restarts=0)
        async with World(path, on_failure={ValueError: Directive.RESTART}, restart=policy) as world:
            await world.guard.ask(Act(script="watch"))
            for ref in (world.worker, world.guard):
                with pytest.raises(HookFailed):
                    await ref.ask(Act(script="fail"))
            await until(lambda: world.system.quarantined() == ["guard", "worker"])
            assert await world.seen() == ()
            await world.system.stop("worker")
            assert await world.seen() == ()
            assert world.system.stats().queued == 1
            world.system.release("guard")
            await until(lambda: world.system.stats().queued == 0)
            assert await world.seen() == ("worker 1 stopped",)

    sim(scenario)


@on_every_path
def test_a_watcher_that_stops_drops_its_watches_and_its_successor_is_told_nothing(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Act(script="watch"))
            await world.system.stop("guard")
            world.guard = await world.system.spawn(world.cls, "guard")
            await world.system.stop("worker")
            assert await world.seen() == ()
            assert world.system.stats().dead_letters == 0

    sim(scenario)


@on_every_path
def test_a_watcher_that_has_finished_is_still_told(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Finish(script="watch"))
            await world.system.stop("worker")
            assert await world.seen() == ("worker 0 stopped",)

    sim(scenario)


@on_every_path
def test_many_ends_find_room_in_a_full_mailbox_each_once_and_in_order(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        ids = [f"w-{n}" for n in range(20)]
        policy = MailboxPolicy(capacity=1, waiting=0)
        async with World(path, {"all": watching(*ids)}, mailbox=policy) as world:
            for machine_id in ids:
                await world.system.spawn(world.cls, machine_id)
            await world.guard.ask(Act(script="all"))
            await world.guard.ask(Hold())
            receipt = world.guard.tell(LetGo())
            await asyncio.gather(*(world.system.stop(machine_id) for machine_id in ids))
            await receipt
            seen = await world.seen()
            assert sorted(seen) == sorted(f"{machine_id} 0 stopped" for machine_id in ids)
            assert world.system.stats().dead_letters == 0

    sim(scenario)


@on_every_path
def test_a_birth_may_watch_and_a_birth_that_fails_was_never_alive(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.system.ask("late", Born(script="watch"))
            with pytest.raises(HookFailed):
                await world.system.ask("later", Born(script="fail"))
            await world.system.stop("worker")
            await at_rest(world.system)
            assert world.system.snapshot("late").data["seen"] == ("worker 0 stopped",)
            assert world.system.stats().dead_letters == 0

    sim(scenario)


@on_every_async_path
def test_an_id_that_is_being_born_is_told_as_unknown_if_its_birth_fails(
    path: Path, sim: Callable[..., None]
) -> None:
    class Slow(Machine[S], initial=S.UP, hook_timeout=1, final=(S.HELD, S.DONE)):
        @on_enter(S.UP)
        async def hang(self, old: S, new: S) -> None:
            await asyncio.sleep(1e9)

        @transition(S.UP, to=S.HELD)
        async def hold(self, event: Hold) -> None: ...

        @transition(S.UP, to=S.DONE)
        async def finish(self, event: Finish) -> None: ...

    async def scenario() -> None:
        cls = guard_of(path.style)
        async with path.system(cls, Slow, services=SCRIPTS) as system:
            guard = await system.spawn(cls, "guard")
            birth = asyncio.ensure_future(system.spawn(Slow, "worker"))
            await asyncio.sleep(0.5)
            await guard.ask(Act(script="watch"))
            outside = asyncio.ensure_future(system.watch("worker"))
            await asyncio.sleep(0)
            assert guard.snapshot().data["seen"] == ()
            with pytest.raises(HookFailed):
                await birth
            assert await outside == Terminated(machine_id="worker", incarnation=0, reason="unknown")
            await at_rest(system)
            assert guard.snapshot().data["seen"] == ("worker 0 unknown",)

    sim(scenario)


@on_every_path
def test_a_terminated_that_fails_is_delivered_again_as_the_class_declares_and_can_be_withdrawn(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        failures = iter([True, False])

        def lost(machine: Any) -> None:
            if next(failures):
                raise ValueError

        async with World(path, {"lost": lost}, redelivery=Redelivery(attempts=2)) as world:
            await world.guard.ask(Act(script="watch"))
            await world.system.stop("worker")
            await asyncio.sleep(1)
            assert await world.seen() == ("worker 0 stopped",)

    sim(scenario)


@on_every_path
def test_guards_and_after_hooks_may_not_watch(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path, {"after": watching("worker")}) as world:
            await world.guard.ask(Finish())
            await at_rest(world.system)
            (failed,) = [record for record in world.records if record.name == "after_hook_failed"]
            assert isinstance(failed.error, ReadOnly)
            await world.system.stop("worker")
            assert await world.seen() == ()

    sim(scenario)


@on_every_path
@pytest.mark.parametrize("target", ["guard", "no id", ""])
def test_a_watch_that_cannot_be_meant_is_refused(path: Path, target: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path, {"odd": watching(target)}) as world:
            with pytest.raises(HookFailed) as caught:
                await world.guard.ask(Act(script="odd"))
            assert isinstance(caught.value.__cause__, InvalidEvent)

    sim(scenario)


@on_every_path
def test_a_machine_without_a_transition_for_terminated_may_not_watch(
    path: Path, sim: Callable[..., None]
) -> None:
    class Deaf(Machine[S], initial=S.UP):
        @transition(S.UP, to=STAY)
        @path.style
        def act(self, event: Act) -> None:
            self.watch("worker")

        @transition(S.UP, to=S.HELD)
        @path.style
        def hold(self, event: Hold) -> None: ...

        @transition(S.HELD, to=S.DONE)
        @path.style
        def finish(self, event: Finish) -> None: ...

        @transition(S.DONE, to=S.UP)
        @path.style
        def let_go(self, event: LetGo) -> None: ...

    async def scenario() -> None:
        async with path.system(Deaf) as system:
            deaf = await system.spawn(Deaf, "deaf")
            with pytest.raises(HookFailed, match="Deaf has no transition for Terminated") as caught:
                await deaf.ask(Act())
            assert isinstance(caught.value.__cause__, InvalidEvent)

    sim(scenario)


@on_every_path
def test_nobody_but_the_runtime_sends_terminated(path: Path, sim: Callable[..., None]) -> None:
    fake = Terminated(machine_id="worker", incarnation=0, reason="failed")

    async def scenario() -> None:
        scripts = {
            "tell": lambda machine: machine.tell("guard", fake) and None,
            "raise": lambda machine: machine.next_event(fake),
        }
        async with World(path, scripts) as world:
            with pytest.raises(InvalidEvent, match="only the runtime sends Terminated"):
                await world.guard.ask(fake)
            with pytest.raises(InvalidEvent):
                world.guard.tell(fake)
            for script in scripts:
                with pytest.raises(HookFailed, match="only the runtime sends Terminated"):
                    await world.worker.ask(Act(script=script))
            assert await world.seen() == ()

    sim(scenario)


# -- from outside ----------------------------------------------------------------------------------------------------


@on_every_path
def test_code_outside_waits_for_the_end_of_a_machine(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            both = [asyncio.ensure_future(world.system.watch("worker")) for _ in range(2)]
            gives_up = asyncio.ensure_future(world.system.watch("worker"))
            await world.guard.ask(Act(script="watch"))
            await asyncio.sleep(1)
            gives_up.cancel()
            await asyncio.wait([gives_up])
            assert not any(task.done() for task in both)
            await world.worker.ask(Finish())
            end = Terminated(machine_id="worker", incarnation=0, reason="finished")
            assert await asyncio.gather(*both) == [end, end]
            assert await world.seen() == ("worker 0 finished",)
            assert await world.system.watch("worker") == end
            nobody = await world.system.watch("nobody")
            assert nobody == Terminated(machine_id="nobody", incarnation=0, reason="unknown")
            with pytest.raises(InvalidEvent):
                await world.system.watch("no id")

    sim(scenario)


@on_every_path
def test_who_gives_up_leaves_nothing_behind(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await world.system.watch("worker")
            assert not world.system._parts.watches._watchers
            both = [asyncio.ensure_future(world.system.watch("worker")) for _ in range(2)]
            await asyncio.sleep(1)
            both[0].cancel()
            await asyncio.wait(both[:1])
            await world.guard.ask(Act(script="watch"))
            await world.system.stop("guard")
            # it ends and its waiter gives up in the same moment
            both[1].cancel()
            await world.system.stop("worker")
            await asyncio.wait(both)
            assert not world.system._parts.watches._watchers
            assert not world.system._parts.watches._watched

    sim(scenario)


@on_every_path
def test_the_end_of_the_system_ends_every_watch(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            await world.guard.ask(Act(script="watch"))
            outside = asyncio.ensure_future(world.system.watch("worker"))
            await asyncio.sleep(1)
            report = await world.system.shutdown()
            assert (report.finished, report.abandoned, report.unstopped) == (True, 0, ())
            assert (await outside).reason == "stopped"
            assert world.system.stats().dead_letters == 0
            with pytest.raises(SystemStopping):
                await world.system.watch("worker")

    sim(scenario)


@on_every_async_path
def test_a_hook_does_not_hold_its_machine_to_wait_for_another_ones_end(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async def wait(machine: Any) -> None:
            await world.system.watch("worker")

        async with World(path, {"wait": wait}) as world:
            with pytest.raises(HookFailed, match=r"use self\.watch") as caught:
                await world.guard.ask(Act(script="wait"))
            assert isinstance(caught.value.__cause__, Unsupported)

    sim(scenario)


@pytest.mark.parametrize("path", PATHS[:1], ids=str)
def test_the_account_balances_at_each_step_of_the_loop(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        async with World(path) as world:
            loop: Any = asyncio.get_running_loop()
            loop.on_step = lambda _: world.balances.add(world.system.stats().balance)
            await world.guard.ask(Act(script="watch"))
            await world.guard.ask(Hold())
            await world.worker.ask(Finish())
            await world.guard.ask(Act(script="unwatch"))
            await world.guard.ask(Act(script="watch"))
            await world.guard.ask(LetGo())
            await world.seen()
            loop.on_step = None
        assert world.balances == {0}

    sim(scenario)
