"""The README keeps its word: its program runs as a file, its commands are given, each of its claims has a test."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from enum import StrEnum, auto
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

import actorfsm
from actorfsm import (
    STAY,
    ActorSystem,
    AskCycle,
    Event,
    Expired,
    HookFailed,
    InvalidEvent,
    Limits,
    Machine,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    Record,
    RestartPolicy,
    Supervisor,
    SystemFailed,
    Veto,
    Vetoed,
    on_enter,
    postpone,
    transition,
)
from actorfsm.testing.loop import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    "python3 -m venv --upgrade-deps .venv && .venv/bin/pip install -e . && .venv/bin/python -m examples.orders",
    ".venv/bin/pip install --group test && .venv/bin/python -m pytest",
]
CLAIMS: dict[str, Callable[..., None]] = {}


def claim(words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which claim of the README a test holds."""

    def register(test: Callable[..., None]) -> Callable[..., None]:
        CLAIMS[words] = test
        return test

    return register


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def bullets(title: str) -> list[str]:
    return re.findall(r"^- \*\*(.+?)\.\*\*", section(title), flags=re.MULTILINE)


# -- the page -------------------------------------------------------------------------------------------------------


def test_the_program_of_the_readme_runs_as_a_file_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```.*?```text output\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None
    (tmp_path / "shop.py").write_text(found[1], encoding="utf-8")
    package = Path(actorfsm.__file__).parents[1]  # installed or not
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, str(tmp_path / "shop.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", found[2])


def test_the_commands_of_the_readme_are_the_two_that_the_contributing_page_has() -> None:
    for page in (README, (ROOT / "docs/contributing.md").read_text(encoding="utf-8")):
        assert [text for text in page.splitlines() if ".venv/bin/python -m" in text][:2] == COMMANDS


def test_the_readme_can_be_read_in_three_minutes() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) < 3 * 240


def test_every_claim_of_the_readme_has_a_test_and_every_test_a_claim() -> None:
    assert bullets("What you get beyond twenty lines of asyncio") == list(CLAIMS)


# -- the machine that the claims are tried on -------------------------------------------------------------------------


class Light(StrEnum):
    OFF = auto()
    ON = auto()


class Switch(Event[int]):
    """Answered with how often it has been switched."""

    trouble: str = ""


class Dim(Event):
    pass


class Stranger(Event):
    pass


class AskOther(Event[int]):
    other: str


class Lamp(
    Machine[Light],
    initial=Light.OFF,
    mailbox=MailboxPolicy(capacity=3, overflow=Overflow.REFUSE),
    hook_timeout=5,
):
    switched: int = 0
    dimmed: int = 0

    @transition(Light.OFF, to=Light.ON)
    @transition(Light.ON, to=Light.OFF)
    async def switch(self, event: Switch) -> int:
        seen = self.switched
        self.switched = -1  # what nobody may see
        await asyncio.sleep(1)
        self.switched = seen + 1
        return self.switched

    @on_enter(Light.ON)
    async def make_trouble(self, old: Light, new: Light, event: Switch) -> None:
        self.tell("witness", Switch())
        match event.trouble:
            case "refuse":
                raise Veto("no bulb")
            case "raise":
                raise OSError("no current")
            case "hang":
                await asyncio.sleep(3600)
            case "cancel itself":
                raise asyncio.CancelledError

    @postpone(Light.OFF)
    @transition(Light.ON, to=STAY)
    async def dim(self, event: Dim) -> None:
        self.dimmed += 1

    @transition(Light.OFF, Light.ON, to=STAY)
    async def ask_other(self, event: AskOther) -> int:
        return await self.ask(event.other, AskOther(other=self.id))


Sim = "Callable[..., None]"
SystemOf = "Callable[..., Any]"


# -- claims ---------------------------------------------------------------------------------------------------------


@claim("One event at a time")
@pytest.mark.rule("C1")
def test_no_event_runs_or_sees_half_of_another_while_a_hook_awaits(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            asks = [asyncio.create_task(lamp.ask(Switch())) for _ in range(3)]
            seen = set()
            while not all(ask.done() for ask in asks):
                seen.add(lamp.snapshot().data["switched"])
                await asyncio.sleep(0.25)
            assert sorted([await ask for ask in asks]) == [1, 2, 3]
            assert seen <= {0, 1, 2, 3}

    sim(scenario)


@claim("All or nothing")
@pytest.mark.rule("C2")
def test_a_hook_that_refuses_raises_or_hangs_changes_nothing_and_sends_nothing(
    system_of: SystemOf, sim: Sim
) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            witness = await system.spawn(Lamp, "witness")
            before = lamp.snapshot()
            for trouble in ("refuse", "raise", "hang", "cancel itself"):
                with pytest.raises((Vetoed, HookFailed)):
                    await lamp.ask(Switch(trouble=trouble))
                assert lamp.snapshot() == before
            assert witness.snapshot().data["switched"] == 0
            assert await lamp.ask(Switch()) == 1

    sim(scenario)


@claim("A retry does not pay twice")
def test_the_same_event_id_is_applied_once_and_gets_the_recorded_reply(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            at_once = await asyncio.gather(*(lamp.ask(Switch(), event_id="s-1") for _ in range(3)))
            assert [*at_once, await lamp.ask(Switch(), event_id="s-1")] == [1, 1, 1, 1]
            assert lamp.snapshot().data["switched"] == 1

    sim(scenario)


@claim("Every ask ends")
@pytest.mark.rule("C8")
def test_an_ask_that_was_not_begun_at_its_deadline_is_surely_not_done(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            first = asyncio.create_task(lamp.ask(Switch(trouble="hang"), timeout=60))
            await asyncio.sleep(0.5)
            with pytest.raises(Expired):
                await lamp.ask(Switch(), timeout=0.5)
            with pytest.raises(HookFailed):
                await first
            assert lamp.snapshot().data["switched"] == 0

    sim(scenario)


@claim("No deadlock")
@pytest.mark.rule("C9")
def test_two_machines_that_ask_each_other_get_the_circle_at_once(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            for machine_id in ("a", "b"):
                await system.spawn(Lamp, machine_id)
            with pytest.raises(HookFailed) as caught:
                await system.ask("a", AskOther(other="b"))
            cause: BaseException | None = caught.value
            while cause is not None and not isinstance(cause, AskCycle):
                cause = cause.__cause__
            assert isinstance(cause, AskCycle)
            assert cause.path == ("b", "a", "b")
            assert asyncio.get_running_loop().time() < 1

    sim(scenario)


@claim("Too early is not lost")
@pytest.mark.rule("C6")
def test_what_comes_too_early_is_handled_after_the_change_of_state(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            early = lamp.tell(Dim())
            await asyncio.sleep(1)
            assert system.stats().postponed == 1
            await lamp.ask(Switch())
            assert (await early).kind == "committed"
            assert lamp.snapshot().data["dimmed"] == 1

    sim(scenario)


@claim("A typing error creates nothing")
@pytest.mark.rule("C10")
def test_an_unknown_id_and_a_strange_event_are_refused_at_the_sender(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            await system.spawn(Lamp, "lamp")
            with pytest.raises(NoSuchMachine):
                await system.ask("lanp", Switch())
            with pytest.raises(InvalidEvent):
                await system.ask("lamp", Stranger())
            assert system.ids() == ["lamp"]

    sim(scenario)


@claim("A bug stays where it is")
@pytest.mark.rule("C13")
def test_a_hook_that_fails_in_any_way_leaves_the_others_in_peace(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            await asyncio.gather(*(system.spawn(Lamp, f"lamp-{n}") for n in range(4)))
            troubles = ("raise", "hang", "cancel itself", "")
            asks = [system.ask(f"lamp-{n}", Switch(trouble=trouble)) for n, trouble in enumerate(troubles)]
            *failed, well = await asyncio.gather(*asks, return_exceptions=True)
            assert [type(error) for error in failed] == [HookFailed] * 3
            assert well == 1

    sim(scenario)


@claim("What fails is started again")
@pytest.mark.rule("C17")
def test_a_service_that_fails_is_started_again_after_growing_pauses_until_it_is_too_often(sim: Sim) -> None:
    async def scenario() -> None:
        starts: list[float] = []

        async def gateway() -> None:
            starts.append(asyncio.get_running_loop().time())
            await asyncio.sleep(1)
            raise OSError("no route")

        policy = RestartPolicy(max_restarts=3, within_s=60, first_delay_s=1, jitter=0)
        shop = Supervisor("shop", policy=policy, children=[gateway, Lamp])
        root = RestartPolicy(max_restarts=0)

        async def open_shop() -> None:
            async with ActorSystem(children=[shop], root=root, trace=None, random=Random(7)) as system:
                await system.spawn(Lamp, "lamp")
                await asyncio.sleep(5)
                assert await system.ask("lamp", Switch()) == 1  # nobody else noticed
                await asyncio.sleep(3600)

        with pytest.raises(SystemFailed) as caught:
            await open_shop()
        assert starts == [0, 2, 5, 10]  # a second of life, then pauses of 1, 2 and 4
        assert isinstance(caught.value.__cause__, OSError)

    sim(scenario)


@claim("Nothing grows without bound")
@pytest.mark.rule("C11")
def test_a_full_mailbox_says_so_at_once(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp, limits=Limits(ask_timeout_s=60)) as system:
            lamp = await system.spawn(Lamp, "lamp")
            receipts = [lamp.tell(Switch()) for _ in range(10)]
            refused = []
            for receipt in receipts:
                try:
                    await receipt.accepted()
                except MailboxFull as error:
                    refused.append(error)
            assert len(refused) == 7
            assert asyncio.get_running_loop().time() == 0

    sim(scenario)


@claim("You can see why")
@pytest.mark.rule("C30")
def test_each_event_has_one_record_that_says_who_refused_and_why(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        records: list[Record] = []
        async with system_of(Lamp, trace=records.append) as system:
            lamp = await system.spawn(Lamp, "lamp")
            with pytest.raises(Vetoed):
                await lamp.ask(Switch(trouble="refuse"), event_id="s-1")
        (record,) = [record for record in records if record.event_id == "s-1"]
        assert (record.name, record.source, record.target) == ("vetoed", "OFF", "ON")
        assert (record.hook, record.reason) == ("make_trouble", "no bulb")
        assert record.run_s == pytest.approx(1)

    sim(scenario)


@claim("It stops in order")
@pytest.mark.rule("C19")
def test_what_is_queued_is_finished_before_the_end(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        told = []
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            for _ in range(3):
                lamp.tell(Switch(), callback=lambda outcome: told.append(outcome.reply))
        assert told == [1, 2, 3]
        assert (system.report.finished, system.report.abandoned, system.report.unstopped) == (True, 0, ())

    sim(scenario)


@claim("Tests that repeat")
@pytest.mark.rule("C32")
def test_the_same_seed_gives_the_same_order_of_events(system_of: SystemOf) -> None:
    def order_of_events(seed: int) -> list[tuple[str, str]]:
        records: list[Record] = []

        async def scenario() -> None:
            async with system_of(Lamp, trace=records.append) as system:
                await asyncio.gather(*(system.spawn(Lamp, f"lamp-{n}") for n in range(5)))
                await asyncio.gather(*(system.ask(f"lamp-{n}", Switch()) for n in range(5)))

        simulate(scenario, seed=seed)
        return [(record.machine_id, record.event_id) for record in records]

    assert order_of_events(1) == order_of_events(1)
    assert len({tuple(order_of_events(seed)) for seed in range(10)}) > 1


# -- what is not promised ---------------------------------------------------------------------------------------------


def test_receipts_say_that_nothing_is_on_disk(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as system:
            lamp = await system.spawn(Lamp, "lamp")
            assert lamp.tell(Switch()).durable is False

    sim(scenario)


def test_two_systems_have_an_order_42_each(system_of: SystemOf, sim: Sim) -> None:
    async def scenario() -> None:
        async with system_of(Lamp) as one, system_of(Lamp) as other:
            await one.spawn(Lamp, "order-42")
            await other.spawn(Lamp, "order-42")
            assert await one.ask("order-42", Switch()) == 1
            assert other.snapshot("order-42").data["switched"] == 0

    sim(scenario)
