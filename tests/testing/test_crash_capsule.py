"""A failure of user code becomes a file, and the file a failing test, until the hook is mended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

import actorfsm
from actorfsm import STAY, Event, HookFailed, Machine, on_enter, on_timeout, transition
from actorfsm.event import StateTimeout
from actorfsm.machine.identity import definition_id, definition_lines
from actorfsm.machine.machine import definition_of
from actorfsm.testing import (
    CapsuleError,
    CrashCapsule,
    SimulatedSystem,
    crash_capsule,
    replay_capsule,
    simulate,
)

pytestmark = pytest.mark.rule("C31")
PACKAGE = Path(actorfsm.__file__).parents[1]


class S(StrEnum):
    NEW = "new"
    PAID = "paid"


class Line(BaseModel):
    article: str
    price: Decimal


class Pay(Event[str]):
    amount: Decimal
    on: date
    lines: list[Line] = []


class Open(Event[None]):
    """Gives birth."""


class Unlock(Event[None]):
    pin: SecretStr


class Ask(Event[int]):
    """Asks another one."""


class Order(Machine[S, Any], initial=S.NEW):
    total: Decimal = Decimal(0)
    lines: list[Line] = []
    since: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    tags: frozenset[str] = frozenset()

    @transition(S.NEW, to=S.PAID)
    async def pay(self, event: Pay) -> str:
        self.lines = [*self.lines, *event.lines]
        event.lines.clear()
        self.total += event.amount
        self.services(self)
        return self.idempotency_key

    @transition(S.PAID, to=S.NEW)
    async def more(self, event: Pay) -> str:
        self.services(self)
        return f"{self.total} {self.state.name} {self.now():%H}"

    @transition(S.PAID, to=STAY)
    async def ask_other(self, event: Ask) -> int:
        await self.ask("other", Unlock(pin=SecretStr("1")))
        self.services(self)
        return 1

    @transition(S.NEW, to=STAY)
    async def unlock(self, event: Unlock) -> None:
        self.services(event.pin.get_secret_value())

    @transition(to=S.PAID)
    async def born(self, event: Open) -> None:
        self.services(self)

    @on_timeout(S.PAID, after=60, to=STAY)
    async def late(self, event: StateTimeout) -> None:
        self.services(self)


def fail(_: Any) -> None:
    raise ValueError("no money")


def fine(_: Any) -> None: ...


async def crash_of(
    machine: type[Machine[Any, Any]], services: Any, *events: Event[Any], **data: Any
) -> HookFailed:
    """Send the events; return the failure of the last."""
    async with SimulatedSystem(machine, services=services, check=False) as system:
        await system.spawn(machine, "order-1", data=data)
        for event in events[:-1]:
            await system.ask("order-1", event)
        with pytest.raises(HookFailed) as caught:
            await system.ask("order-1", events[-1], event_id="mine", headers={"traceparent": "abc"})
        return caught.value


PAY = Pay(amount=Decimal("12.50"), on=date(2026, 1, 2), lines=[Line(article="tea", price=Decimal(3))])


def test_a_capsule_holds_what_was_before_and_comes_back_from_its_file_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        line = Line(article="cup", price=Decimal("1.10"))
        failure = await crash_of(Order, fail, PAY, total=7, lines=[line], tags={"b", "a"})
        capsule = crash_capsule(failure)
        assert (capsule.state, capsule.seq, capsule.incarnation, capsule.machine_id) == (
            "NEW",
            1,
            0,
            "order-1",
        )
        assert capsule.data == {
            "total": "7",
            "lines": [{"article": "cup", "price": "1.10"}],
            "since": "2026-01-01T00:00:00Z",
            "tags": ["a", "b"],
        }
        # The hook has emptied the list in the event; one with an id of its own is kept as it was sent.
        assert capsule.event == {
            "amount": "12.50",
            "on": "2026-01-02",
            "lines": [{"article": "tea", "price": "3"}],
        }
        assert (capsule.event_id, capsule.headers) == ("mine", {"traceparent": "abc"})
        assert (capsule.hook, capsule.error_text, capsule.seed) == ("pay", "no money", 7)
        assert capsule.error_class == "builtins:ValueError"
        assert capsule.machine_class == f"{__name__}:Order"
        assert (capsule.is_complete, capsule.incomplete) == (True, {})
        file = capsule.save(tmp_path / "crash.json")
        assert CrashCapsule.load(file) == capsule
        assert "order-1" in str(capsule)

    simulate(scenario, seed=7)


def test_its_replay_fails_as_it_did_and_passes_once_the_hook_is_mended(tmp_path: Path) -> None:
    async def scenario() -> None:
        failure = await crash_of(Order, fail, PAY, total=7)
        file = crash_capsule(failure).save(tmp_path / "crash.json")
        with pytest.raises(HookFailed, match="order-1: Pay failed in pay: ValueError: no money") as caught:
            await replay_capsule(file, machine=Order, services=fail)
        assert type(caught.value.__cause__) is ValueError
        assert any("replayed from the crash capsule" in note for note in caught.value.__notes__)
        outcome = await replay_capsule(file, machine=Order, services=fine)
        assert (outcome.kind, outcome.old, outcome.new, outcome.seq) == ("committed", S.NEW, S.PAID, 2)
        assert outcome.reply == "order-1/mine/pay"  # the same key as then

    simulate(scenario)


def test_it_is_put_into_the_state_and_the_data_of_then() -> None:
    async def scenario() -> None:
        once = iter([fine, fail])

        def by_turns(machine: Any) -> None:
            next(once)(machine)

        failure = await crash_of(Order, by_turns, PAY, PAY)
        seen: list[Any] = []
        capsule = crash_capsule(failure)
        outcome = await replay_capsule(
            capsule, machine=Order, services=lambda machine: seen.append((machine.total, machine.state))
        )
        assert seen == [(Decimal("12.50"), S.PAID)]
        assert outcome.reply == "12.50 PAID 00"
        await replay_capsule(
            capsule, machine=Order, data={"total": 5}, services=lambda machine: seen.append(machine.total)
        )
        assert seen[1] == Decimal(5)

    simulate(scenario)


def test_an_event_that_the_hook_may_have_changed_is_said_to_be_so() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Order, services=fail, check=False) as system:
            await system.spawn(Order, "order-1")
            await system.tell("order-1", PAY)
            capsule = crash_capsule(system.last_crash("order-1"))
        assert capsule.event["lines"] == []
        assert capsule.incomplete == {"event": "can be changed in place: shown as the hook left it"}
        with pytest.raises(HookFailed):
            await replay_capsule(capsule, machine=Order, event=PAY, services=fail)

    simulate(scenario)


class One(StrEnum):
    NEW = "new"


class Vault(Machine[One, Any], initial=One.NEW):
    pin: str = Field(repr=False)
    token: SecretStr = SecretStr("t0ken")

    @transition(One.NEW, to=STAY)
    async def unlock(self, event: Unlock) -> None:
        self.services((self.pin, self.token.get_secret_value(), event.pin.get_secret_value()))


def test_secrets_are_not_in_it_and_it_says_so_unless_they_are_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        failure = await crash_of(Vault, fail, Unlock(pin=SecretStr("4711")), pin="0815")
        capsule = crash_capsule(failure)
        assert capsule.incomplete == {
            "data.pin": "kept out of the repr",
            "data.token": "masked",
            "event.pin": "masked",
        }
        text = capsule.save(tmp_path / "crash.json").read_text()
        assert not any(secret in text for secret in ("0815", "t0ken", "4711"))
        with pytest.raises(
            CapsuleError, match=r"pin.*data=\.\.\.\), or make the capsule with reveal_secrets=True"
        ):
            await replay_capsule(capsule, machine=Vault, services=fail)
        seen: list[Any] = []
        await replay_capsule(capsule, machine=Vault, data={"pin": "0"}, services=seen.append)
        assert seen == [("0", "**********", "**********")]
        revealed = crash_capsule(failure, reveal_secrets=True)
        assert revealed.is_complete
        await replay_capsule(revealed, machine=Vault, services=seen.append)
        assert seen[1] == ("0815", "t0ken", "4711")

    simulate(scenario)


def test_births_timers_and_machines_that_are_asked_can_be_replayed() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Order, services=fail) as system:
            with pytest.raises(HookFailed) as born:
                await system.ask("b", Open())
        capsule = crash_capsule(born.value)
        assert (capsule.state, capsule.seq) == (None, 0)
        with pytest.raises(HookFailed):
            await replay_capsule(capsule, machine=Order, services=fail)
        assert (await replay_capsule(capsule, machine=Order, services=fine)).new is S.PAID

        services: list[Callable[[Any], None]] = [fine]

        def current(machine: Any) -> None:
            services[0](machine)

        async with SimulatedSystem(Order, services=current) as system:
            await system.ask("b", Open())
            services[0] = fail
            await asyncio.sleep(60.05)
            late = crash_capsule(system.last_crash("b"))
            services[0] = fine
            await system.spawn(Order, "other")
            services[0] = lambda it: fail(it) if isinstance(it, Order) else None
            with pytest.raises(HookFailed) as asked:
                await system.ask("b", Ask())
            asking = crash_capsule(asked.value)
            services[0] = fine
        assert (late.hook, late.event) == ("late", {"name": "late"})
        with pytest.raises(HookFailed):
            await replay_capsule(late, machine=Order, services=fail)
        with pytest.raises(HookFailed, match="NoSuchMachine"):
            await replay_capsule(asking, machine=Order, services=fine)
        outcome = await replay_capsule(
            asking, machine=Order, services=fine, prepare=lambda system: system.spawn(Order, "other")
        )
        assert outcome.success

    simulate(scenario)


class Fragile(Machine[S, Any], initial=S.NEW):
    size: int = 1

    @on_enter(S.NEW)
    async def check(self, old: S, new: S, event: Event) -> None:
        self.services(self.size)


def test_a_spawn_that_failed_can_be_replayed_with_its_data() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Fragile, services=fail) as system:
            with pytest.raises(HookFailed) as caught:
                await system.spawn(Fragile, "f", data={"size": 7})
        capsule = crash_capsule(caught.value)
        seen: list[int] = []
        assert (await replay_capsule(capsule, machine=Fragile, services=seen.append)).success
        assert seen == [7]
        with pytest.raises(HookFailed):
            await replay_capsule(capsule, machine=Fragile, services=fail)

    simulate(scenario)


def test_a_definition_that_has_changed_is_reported_with_what_changed() -> None:
    class Later(Event[int]):
        n: int

    class Changed(Machine[S, Any], initial=S.NEW):
        size: int = 1
        colour: str = "red"

        @on_enter(S.NEW)
        async def check(self, old: S, new: S, event: Event) -> None:
            self.services(self.size)

    Changed.__definition__.name = "Fragile"  # type: ignore[union-attr]

    async def scenario() -> None:
        async with SimulatedSystem(Fragile, services=fail) as system:
            with pytest.raises(HookFailed) as caught:
                await system.spawn(Fragile, "f", data={"size": 7})
        capsule = crash_capsule(caught.value)
        with pytest.raises(CapsuleError, match=r"(?s)has changed.*\+data colour: str.*any_definition=True"):
            await replay_capsule(capsule, machine=Changed, services=fine)
        assert (await replay_capsule(capsule, machine=Changed, services=fine, any_definition=True)).success
        gone = capsule.model_copy(update={"state": "GONE"})
        with pytest.raises(CapsuleError, match="no state GONE"):
            await replay_capsule(gone, machine=Fragile)
        other = capsule.model_copy(update={"event_class": "somewhere:Else"})
        with pytest.raises(CapsuleError, match="does not take somewhere:Else"):
            await replay_capsule(other, machine=Fragile)
        with pytest.raises(CapsuleError, match=r"cannot be imported.*machine="):
            await replay_capsule(capsule.model_copy(update={"machine_class": "no.such:Thing"}))

    simulate(scenario)


class Switch(Machine[S, Any], initial=S.NEW):
    """Goes wherever it is asked to."""

    @on_enter(S.PAID)
    async def pay(self, old: S, new: S) -> None:
        self.services(self)


def test_a_request_to_go_to_a_state_can_be_replayed() -> None:
    async def scenario() -> None:
        async with SimulatedSystem(Switch, services=fail) as system:
            switch = await system.spawn(Switch, "s")
            assert (await switch.request_transition(S.PAID)).kind == "failed"
            capsule = crash_capsule(system.last_crash("s"))
        assert (capsule.event, capsule.is_complete) == ({"to": "PAID"}, True)
        with pytest.raises(HookFailed, match="no money"):
            await replay_capsule(capsule, machine=Switch, services=fail)
        outcome = await replay_capsule(capsule, machine=Switch, services=fine)
        assert (outcome.kind, outcome.new) == ("committed", S.PAID)

    simulate(scenario)


def test_what_does_not_validate_is_told_with_the_way_to_give_another() -> None:
    async def scenario() -> None:
        capsule = crash_capsule(await crash_of(Order, fail, PAY))
        with pytest.raises(CapsuleError, match=r"data of Order does not validate: total.*\(data=\.\.\.\)"):
            await replay_capsule(capsule, machine=Order, services=fine, data={"total": "much"})
        spoiled = capsule.model_copy(update={"event": {**capsule.event, "amount": "much"}})
        with pytest.raises(CapsuleError, match=r"(?s)Pay does not validate: amount.*\(event=\.\.\.\)"):
            await replay_capsule(spoiled, machine=Order, services=fine)
        assert (await replay_capsule(spoiled, machine=Order, services=fine, event=PAY)).success

    simulate(scenario)


def test_what_is_no_capsule_and_no_failure_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "crash.json"
    file.write_text('{"format": 2}')
    with pytest.raises(CapsuleError, match=r"holds no crash capsule of format 1: format"):
        CrashCapsule.load(file)
    with pytest.raises(CapsuleError, match="last_crash"):
        crash_capsule(None)
    with pytest.raises(CapsuleError, match="last_crash"):
        crash_capsule(HookFailed("made by hand", hook="x"))


def test_the_identity_does_not_depend_on_what_hooks_do_nor_on_the_process() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE)!r})\n"
        f"import importlib.util as u\n"
        f"s = u.spec_from_file_location('elsewhere', {__file__!r}); m = u.module_from_spec(s)\n"
        "sys.modules['elsewhere'] = m; s.loader.exec_module(m)\n"
        "print(m.definition_id(m.definition_of(m.Order)))"
    )
    here = definition_id(definition_of(Order))
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        there = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
        )
        assert there.stdout.strip() == here
    assert definition_id(definition_of(Vault)) != here
    assert "state PAID times out by late after 60 s" in definition_lines(definition_of(Order))


MACHINE = """
    from enum import Enum
    from actorfsm import Event, Machine, transition

    class S(Enum):
        NEW = 1
        PAID = 2

    class Pay(Event[int]):
        amount: int

    class Order(Machine[S], initial=S.NEW, final=(S.PAID,)):
        total: int = 0

        @transition(S.NEW, to=S.PAID)
        async def pay(self, event: Pay) -> int:
            self.total += event.amount
            return 100 // {divisor}
"""
CRASH = """
    import asyncio, sys
    from actorfsm import HookFailed
    from actorfsm.testing import SimulatedSystem, crash_capsule, simulate
    from shop import Order, Pay

    async def main():
        async with SimulatedSystem(Order) as system:
            order = await system.spawn(Order, "order-17", data={"total": 5})
            try:
                await order.ask(Pay(amount=3))
            except HookFailed as failure:
                crash_capsule(failure).save("crash.json")

    simulate(main, seed=3)
"""
TEST = """
    from actorfsm.testing import replay_capsule

    async def test_order_17_can_be_paid(actor_clock):
        assert (await replay_capsule("crash.json")).success
"""


def test_a_crash_becomes_a_failing_test_in_a_file_of_its_own_that_passes_once_the_hook_is_mended(
    tmp_path: Path,
) -> None:
    from tests.testing.test_plugin import LOAD

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": f"{PACKAGE}{os.pathsep}{tmp_path}", "PYTEST_ADDOPTS": ""}
        env["PYTHONDONTWRITEBYTECODE"] = env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    shop, pytest_run = (
        tmp_path / "shop.py",
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", *LOAD, "test_it.py"),
    )
    shop.write_text(dedent(MACHINE.format(divisor="(event.amount - 3)")))
    made = run("-c", dedent(CRASH))
    assert made.returncode == 0, made.stderr
    (tmp_path / "test_it.py").write_text(dedent(TEST))
    failed = run(*pytest_run)
    assert failed.returncode == 1
    assert "HookFailed: order-17: Pay failed in pay: ZeroDivisionError" in failed.stdout
    assert "1 failed" in failed.stdout
    shop.write_text(dedent(MACHINE.format(divisor="max(1, event.amount - 3)")))
    mended = run(*pytest_run)
    assert mended.returncode == 0, mended.stdout
    assert "1 passed" in mended.stdout
