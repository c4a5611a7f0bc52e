"""C7: each accepted event has exactly one outcome, and the account balances at every moment of a busy run."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from actorfsm import (
    ActorFSMError,
    AskTimeout,
    Directive,
    EventIdConflict,
    Expired,
    HookFailed,
    MachineStopped,
    MailboxFull,
    MailboxPolicy,
    NoSuchMachine,
    Overflow,
    Quarantined,
    Redelivery,
    RestartPolicy,
    SystemStopping,
    Unhandled,
    Vetoed,
)
from tests.contract.puppet import STYLES, Do, Eager, Finish, Hold, LetGo, Never, Plain, Suspending, took_path

pytestmark = pytest.mark.rule("C7")
ALL = pytest.mark.parametrize("puppet", STYLES, ids=["eager", "suspending", "plain"])
KINDS = ("committed", "vetoed", "unhandled", "failed", "expired", "dead_lettered")


class Ledger:
    """What senders saw, and nothing that the runtime says of itself."""

    def __init__(self) -> None:
        self.receipts: list[Any] = []
        self.asks: dict[str, list[str]] = defaultdict(list)
        """By event id, how asks ended: the word for a kind, or another one where the sender cannot know."""

    async def ask(self, system: Any, machine_id: str, event: Any, event_id: str, timeout: float) -> None:
        try:
            await system.ask(machine_id, event, event_id=event_id, timeout=timeout)
            end = "committed"
        except AskTimeout:
            end = "out of time"
        except Expired:
            end = (
                "not done" if machine_id == "m1" else "expired"
            )  # at m1 it may have waited outside, never accepted
        except HookFailed:
            end = (
                "dead_lettered" if machine_id == "m5" else "failed"
            )  # at m5 it is poison, after its redeliveries
        except (Vetoed, Unhandled) as error:
            end = type(error).__name__.lower()
        except asyncio.CancelledError:
            self.asks[event_id].append("given up")
            raise
        except (MailboxFull, NoSuchMachine, EventIdConflict, MachineStopped, Quarantined, SystemStopping):
            end = "not done"
        self.asks[event_id].append(end)


def watch_every_step(system: Any) -> list[int]:
    """Check the balance before every step of the simulated loop; return a list that holds the number of checks."""
    checks = [0]

    def check(step: int) -> None:
        stats = system.stats()
        assert stats.balance == 0, (step, stats)
        assert min(stats.queued, stats.postponed, stats.in_flight, stats.outgoing, stats.pending_asks) >= 0
        checks[0] += 1

    loop: Any = asyncio.get_running_loop()
    loop.on_step = check
    return checks


def scripts_of(system_of_scripts: dict[Any, Any], checks: Callable[[], None], *, plain: bool) -> None:
    """Fill in scripts of all sorts, which check the account from inside the turn."""

    def quick(machine: Any) -> int:
        checks()
        return 7

    def fail(machine: Any) -> None:
        checks()
        raise ValueError("broken")

    def send(machine: Any) -> None:
        for n in range(3):
            machine.tell("m1", Do(n=n))
        machine.tell("nobody", Do())
        checks()

    def raise_own(machine: Any) -> None:
        machine.next_event(Do(script="quick"))
        machine.next_event(Never())
        checks()

    async def slow(machine: Any) -> int:
        await asyncio.sleep(0.3)
        checks()
        return 8

    async def nested(machine: Any) -> Any:
        checks()
        try:
            return await machine.ask("m2", Do(script="slow"), timeout=0.2)
        except ActorFSMError:
            checks()
            raise

    scripts = system_of_scripts
    scripts |= {"quick": quick, "fail": fail, "send": send, "own": raise_own}
    scripts["quick", "after"] = lambda machine: checks()
    scripts["veto", "enter"] = lambda machine: False
    scripts["after fails", "after"] = fail
    if not plain:
        scripts |= {"slow": slow, "nested": nested}
        scripts["slow", "after"] = slow


def policies(base: type[Any]) -> tuple[type[Any], ...]:
    class Waits(
        base, mailbox=MailboxPolicy(capacity=3, overflow=Overflow.WAIT, waiting=4, wait_timeout_s=0.4)
    ): ...

    class Newest(base, mailbox=MailboxPolicy(capacity=3, overflow=Overflow.DROP_NEWEST)): ...

    class Oldest(
        base, mailbox=MailboxPolicy(capacity=3, overflow=Overflow.DROP_OLDEST), postpone_limit=2
    ): ...

    class Restarts(
        base,
        mailbox=MailboxPolicy(capacity=5),
        on_failure={ValueError: Directive.RESTART},
        restart=RestartPolicy(max_restarts=2, first_delay_s=0.05),
    ): ...

    class Retries(base, redelivery=Redelivery(attempts=2, first_delay_s=0.05)): ...

    return base, Waits, Newest, Oldest, Restarts, Retries


@ALL
def test_in_a_busy_run_the_account_balances_at_every_step_and_every_sender_agrees_with_the_trace(
    puppet: Any, inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    kinds = policies(puppet)

    async def scenario() -> None:
        records: list[Any] = []
        scripts: dict[Any, Any] = {}
        random = Random(5)
        ledger = Ledger()
        calls: list[Any] = []

        def sink(record: Any) -> None:
            records.append(record)
            assert system.stats().balance == 0, record

        def check() -> None:
            assert system.stats().balance == 0

        def callback(outcome: Any) -> None:
            check()
            calls.append((outcome.machine_id, outcome.event_id, outcome.kind))

        system = system_of(*kinds, services=scripts, trace=sink)
        scripts_of(scripts, check, plain=puppet is Plain)
        names = [name for name in scripts if isinstance(name, str)] + ["veto", "after fails", ""]
        async with system:
            checks = watch_every_step(system)
            for number, kind in enumerate(kinds):
                await system.spawn(kind, f"m{number}")
            tasks: list[asyncio.Task[None]] = []
            sent: list[tuple[str, Any, str]] = []
            for number in range(300):
                machine_id = f"m{random.randrange(len(kinds))}" if random.random() > 0.03 else "nobody"
                events = [*[Do(script=random.choice(names), n=number)] * 7, Hold(), LetGo(), LetGo(), Never()]
                event = random.choice(events)
                event_id = f"e{number}"
                sent.append((machine_id, event, event_id))
                if random.random() < 0.1:
                    machine_id, event, event_id = random.choice(sent[-20:])
                if random.random() < 0.5:
                    timeout = random.choice([0.1, 0.3, 2])
                    tasks.append(
                        asyncio.create_task(ledger.ask(system, machine_id, event, event_id, timeout))
                    )
                else:
                    ledger.receipts.append(
                        system.tell(
                            machine_id,
                            event,
                            event_id=event_id,
                            callback=callback if random.random() < 0.5 else None,
                            reply_to=random.choice([None, None, "m0", "nobody"]),
                            timeout=random.choice([None, 0.2]),
                        )
                    )
                if random.random() < 0.3:
                    await asyncio.sleep(random.choice([0, 0, 0.02, 0.1]))
                if random.random() < 0.05 and tasks:
                    random.choice(tasks).cancel()
                if random.random() < 0.02:
                    for quarantined in system.quarantined():
                        system.release(quarantined, discard=random.random() < 0.5)
            await system.stop("m1")
            await asyncio.gather(*tasks, return_exceptions=True)
            for quarantined in system.quarantined():
                system.release(quarantined)
            for machine_id in system.ids():
                system.tell(machine_id, Finish())
        loop: Any = asyncio.get_running_loop()
        loop.on_step = None
        stats = system.stats()
        assert (stats.balance, stats.queued, stats.postponed, stats.in_flight, stats.outgoing) == (
            0,
            0,
            0,
            0,
            0,
        )
        assert stats.sinks_failed == 0
        assert checks[0] > 500
        assert took_path(stats, puppet, inline=inline)
        assert len([kind for kind in KINDS if stats.outcomes[kind]]) == 6, stats.outcomes
        assert stats.duplicates > 0
        await agree(ledger, records, stats)
        assert_callbacks_agree(calls, records)

    sim(scenario, seeds=range(3))


async def agree(ledger: Ledger, records: list[Any], stats: Any) -> None:
    """Compare what senders recorded with the trace: as many ends of each kind, for each machine and event id."""
    ends = [record for record in records if record.name in KINDS]
    firsts = Counter((r.machine_id, r.event_id) for r in ends if r.name == "committed" and not r.duplicate)
    assert set(firsts.values()) == {1}  # committed at most once, whatever was repeated
    recorded = Counter((record.event_id, record.name) for record in ends)
    said: Counter[tuple[str, str]] = Counter()
    for receipt in ledger.receipts:
        try:
            said[receipt.event_id, (await receipt.outcome()).kind] += 1
        except ActorFSMError:
            said[receipt.event_id, "dead_lettered"] += 1  # a tell that was refused is a dead letter too
    unsure: Counter[str] = Counter()
    for event_id, words in ledger.asks.items():
        for word in words:
            if word in KINDS:
                said[event_id, word] += 1
            else:
                unsure[event_id] += (
                    1  # given up, refused, or ended undelivered: it may have a record, or none
                )
    for event_id in {f"e{number}" for number in range(300)}:
        more = sum(max(0, recorded[event_id, kind] - said[event_id, kind]) for kind in KINDS)
        assert more <= unsure[event_id], (event_id, more)
        for kind in KINDS:
            assert said[event_id, kind] <= recorded[event_id, kind], (event_id, kind)


def assert_callbacks_agree(calls: list[Any], records: list[Any]) -> None:
    """Every callback reports an end that the trace knows, and none reports more ends than there are."""
    ends = Counter((r.machine_id, r.event_id, r.name) for r in records if r.name in KINDS)
    for key, count in Counter(calls).items():
        assert ends[key] >= count, key


@ALL
def test_every_kind_of_end_is_counted_once_and_recorded_once(
    puppet: Any, inline: bool, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        records: list[Any] = []

        def fail(machine: Any) -> None:
            raise ValueError("broken")

        scripts: dict[Any, Any] = {"fail": fail, ("no", "enter"): lambda machine: False}
        async with system_of(puppet, services=scripts, trace=records.append) as system:
            watch_every_step(system)
            await system.spawn(puppet, "a")
            for event, error in (
                (Do(), None),
                (Do(script="no"), Vetoed),
                (Never(), Unhandled),
                (Do(script="fail"), HookFailed),
                (Hold(), None),
                (Do(), Expired),
            ):
                if error is None:
                    await system.ask("a", event, timeout=1)
                else:
                    with pytest.raises(error):
                        await system.ask("a", event, timeout=1)
            held = system.tell("a", Do(n=1))
            await asyncio.sleep(0.1)
            await system.stop("a")
            assert (await held).kind == "dead_lettered"
            stats = system.stats()
            expected = {
                "committed": 3,
                "vetoed": 1,
                "unhandled": 1,
                "failed": 1,
                "expired": 1,
                "dead_lettered": 1,
            }
            assert stats.outcomes == expected
            assert Counter(r.name for r in records if r.name in KINDS) == expected
            assert (stats.accepted, stats.balance) == (8, 0)
            assert took_path(stats, puppet, inline=inline)
            asyncio.get_running_loop().on_step = None  # type: ignore[attr-defined]

    sim(scenario)


@pytest.mark.parametrize("puppet", [Eager, Suspending], ids=["eager", "suspending"])
def test_the_account_names_where_each_event_is(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    class Narrow(puppet, mailbox=MailboxPolicy(capacity=2)): ...

    async def scenario() -> None:
        async def slow(machine: Any) -> None:
            await asyncio.sleep(5)

        def send(machine: Any) -> None:
            for n in range(5):
                machine.tell("narrow", Do(n=n))

        async with system_of(puppet, Narrow, services={"slow": slow, "send": send}) as system:
            watch_every_step(system)
            await system.spawn(Narrow, "narrow")
            await system.spawn(puppet, "a")
            system.tell("narrow", Do(script="slow"))
            await system.ask("a", Do(script="send"))
            await system.ask("a", Hold())
            system.tell("a", Do(), event_id="x")
            system.tell("a", Do(), event_id="x")
            await asyncio.sleep(1)
            stats = system.stats()
            # in flight: slow; queued: two at narrow and the duplicate; outside: three; postponed: one
            assert (stats.in_flight, stats.queued, stats.outgoing, stats.postponed) == (1, 2 + 1, 3, 1)
            assert (stats.accepted, sum(stats.outcomes.values()), stats.balance) == (12, 4, 0)
            await system.ask("a", LetGo())
            asyncio.get_running_loop().on_step = None  # type: ignore[attr-defined]
        assert system.stats().outcomes["committed"] == 13

    sim(scenario)


@ALL
def test_a_sink_sees_a_balanced_account_while_a_machine_is_stopped_or_not_born(
    puppet: Any, system_of: Callable[..., Any], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        seen: list[tuple[str, int]] = []

        def sink(record: Any) -> None:
            seen.append((record.name, system.stats().balance))

        system = system_of(puppet, services={}, trace=sink)
        async with system:
            await system.spawn(puppet, "a")
            await system.ask("a", Hold())
            for n in range(5):
                system.tell("a", Do(n=n), event_id=f"{n % 3}")
            await asyncio.sleep(0.1)
            await system.stop("a")
            assert Counter(name for name, _ in seen) == {"committed": 2, "dead_lettered": 5, "stopped": 1}
            assert {balance for _, balance in seen} == {0}

    sim(scenario)
