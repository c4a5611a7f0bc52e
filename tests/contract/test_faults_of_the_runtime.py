"""A fault of the runtime itself, wherever it strikes, ends the system and answers everybody: nothing hangs (C17)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import ActorFSMError, Directive, SystemFailed
from actorfsm.runtime import perform
from actorfsm.runtime.admission import Admission
from actorfsm.runtime.dispatcher import Dispatcher
from actorfsm.runtime.dynamic_supervisor import DynamicSupervisor
from tests.contract.lamp import Count, Switch, lamp_of
from tests.contract.paths import Path, Script, Style

if TYPE_CHECKING:
    from collections.abc import Callable


class Planted(Exception):
    pass


async def slowly(_machine: Any) -> None:
    await asyncio.sleep(3)


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[bool]:
    """Let a function of the runtime raise once the switch is on."""
    switch = [False]
    original = getattr(owner, name)

    def faulty(*arguments: Any, **options: Any) -> Any:
        if switch[0]:
            switch[0] = False
            raise Planted("a bug of ours")
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, faulty)
    return switch


async def ask_all(system: Any, answers: list[Any], told: list[Any]) -> None:
    """Ask two machines, tell one of them, and note every answer; the first of them waits in its hook."""

    async def ask(ref: Any, event: Any, **options: Any) -> None:
        try:
            answers.append(await ref.ask(event, **options))
        except ActorFSMError as error:
            answers.append(error)

    (lamp_class,) = system._parts.registry.kinds
    one, two = await system.spawn(lamp_class, "one"), await system.spawn(lamp_class, "two")
    switch_on = system._parts.services.planted
    switch_on[0] = True
    asks = [asyncio.ensure_future(ask(one, Count(), timeout=1)) for _ in range(3)]
    asks.append(asyncio.ensure_future(ask(two, Switch())))
    told.append(one.tell(Count()))
    await asyncio.wait(asks)
    await asyncio.sleep(1e6)


def check_that_it_ends(
    sim: Callable[..., None], planted: list[bool], path: Path, does: dict[str, Any], **choices: Any
) -> None:
    async def scenario() -> None:
        script = Script(**does)
        script.planted = planted  # type: ignore[attr-defined]
        answers: list[Any] = []
        told: list[Any] = []
        with pytest.raises(SystemFailed) as caught:
            async with path.system(lamp_of(path.style, **choices), services=script) as system:
                await ask_all(system, answers, told)
        assert type(caught.value.__cause__) is Planted
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(answers) == 4
        outcome = await told[0].outcome()
        struck = [*answers, *([] if outcome.success else [SystemFailed(outcome.reason)])]
        assert any(isinstance(answer, SystemFailed) for answer in struck)
        assert system.stats().balance == 0

    sim(scenario)


@pytest.mark.rule("C17")
@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(("owner", "name"), [(perform, "committed"), (Dispatcher, "_pump")])
def test_a_fault_after_the_commit_or_in_the_pump_leaves_no_ask_without_an_answer(
    owner: Any,
    name: str,
    style: Style,
    inline: bool,
    monkeypatch: pytest.MonkeyPatch,
    sim: Callable[..., None],
) -> None:
    planted = plant(monkeypatch, owner, name)
    does = {} if style is Style.PLAIN else {"count": slowly}
    check_that_it_ends(sim, planted, Path(style, inline), does)


@pytest.mark.rule("C17")
@pytest.mark.parametrize(("owner", "name"), [(Dispatcher, "overdue"), (Admission, "expire")])
def test_a_fault_at_a_deadline_leaves_no_ask_without_an_answer(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    planted = plant(monkeypatch, owner, name)
    check_that_it_ends(sim, planted, Path(Style.SUSPENDING, inline=True), {"count": slowly}, hook_timeout=0.5)


@pytest.mark.rule("C17")
def test_a_fault_at_the_end_of_a_pause_leaves_no_ask_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, sim: Callable[..., None]
) -> None:
    planted = plant(monkeypatch, DynamicSupervisor, "_resume")
    choices = {"on_failure": {ZeroDivisionError: Directive.RESTART}}
    check_that_it_ends(
        sim, planted, Path(Style.SUSPENDING, inline=True), {"count": lambda _machine: 1 // 0}, **choices
    )


@pytest.mark.rule("C19")
def test_a_system_that_was_cancelled_while_it_stopped_has_its_report_nevertheless(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        path = Path(Style.SUSPENDING, inline=True)
        system = path.system(lamp_of(path.style, hook_timeout=30), services=Script(count=slowly))
        async with system:
            lamp = await system.spawn(next(iter(system._parts.registry.kinds)), "lamp")
            lamp.tell(Count())
            stopping = asyncio.ensure_future(system.shutdown())
            await asyncio.sleep(1)
            stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
            assert system.report is not None
            assert not system.report.finished

    sim(scenario)
