"""C21, C23, C27: a system with a journal starts with what is due, however many machines there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from actorfsm import JournalError, PassivationPolicy, Quarantined
from actorfsm.journal.memory import MemoryJournal
from actorfsm.runtime import agenda
from tests.contract.durable import Lives, Note, Order, Remind, Send, hold, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
SEEDS = range(2)
LivesOf = Callable[[], Lives]


class Noting(MemoryJournal):
    """A journal that notes what is read, and may refuse to: any machine, or one."""

    refuses = 0
    refuses_only = ""
    loaded: list[str]

    async def load(self, machine_id: str) -> Any:
        if self.refuses and self.refuses_only in {"", machine_id}:
            self.refuses -= 1
            raise JournalError("it cannot be read now")
        self.loaded.append(machine_id)
        return await super().load(machine_id)


def _noting(lives: Lives) -> Noting:
    journal = Noting(lives.store)
    journal.loaded = []
    return journal


async def _remind(lives: Lives, after: dict[str, float]) -> None:
    async with lives.begin() as system:
        for name, seconds in after.items():
            await system.spawn(Order, name)
            await system.ask(name, Remind(after=seconds))


def _notes(system: Any, machine_id: str) -> tuple[str, ...]:
    notes: tuple[str, ...] = system.snapshot(machine_id).data["notes"]
    return notes


@pytest.mark.rule("C21")
@pytest.mark.parametrize("most", [1, 2, 10_000])
def test_a_machine_is_loaded_when_its_timer_is_due_and_not_before(
    sim: Callable[..., None], lives_of: LivesOf, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenda, "_MOST", most)
    monkeypatch.setattr(agenda, "_PAGE", min(most, 3))
    dues = {"a": 1.0, "b": 1.0, "c": 45.0, "d": 100.0, "e": 100.0, "f": 86_400.0, "g": 0.5}

    async def scenario() -> None:
        lives = lives_of()
        await _remind(lives, dues)
        async with lives.begin() as system:
            assert system.ids() == []
            at = 0.0
            for due in sorted(set(dues.values())):
                await system.clock.advance(due - at - 0.01)
                assert sorted(system.ids()) == sorted(name for name in dues if dues[name] < due)
                await system.clock.advance(0.02)
                at = due + 0.01
                for name in [name for name in dues if dues[name] == due]:
                    assert _notes(system, name) == ("reminder",)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C21")
@pytest.mark.parametrize("most", [1, 2, 10_000])
def test_timers_that_fell_due_while_no_system_ran_come_at_once_and_in_pages(
    sim: Callable[..., None], lives_of: LivesOf, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenda, "_MOST", most)
    monkeypatch.setattr(agenda, "_PAGE", min(most, 3))
    monkeypatch.setattr(agenda, "_TOO_BUSY", 1)

    async def scenario() -> None:
        lives = lives_of()
        await _remind(lives, {f"o{number}": number % 5 + 1.0 for number in range(12)})
        async with lives.begin() as system:
            await system.clock.advance(1000)
            assert all(_notes(system, f"o{number}") == ("reminder",) for number in range(12))
        async with lives.begin() as system:
            await system.clock.advance(1000)
            assert system.ids() == []

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C29")
@pytest.mark.parametrize("most", [1, 10_000])
def test_timers_of_machines_that_leave_memory_are_met_whenever_they_are_due(
    sim: Callable[..., None], lives_of: LivesOf, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenda, "_MOST", most)
    monkeypatch.setattr(agenda, "_PAGE", min(most, 3))

    async def scenario() -> None:
        async with lives_of().begin(passivation=PassivationPolicy(idle_s=2.0)) as system:
            due: dict[str, float] = {}
            for number, after in enumerate([400.0, 5.0, 3000.0, 31.0, 59.0, 61.0, 90.0, 7.0, 200.0, 3000.0]):
                await system.spawn(Order, f"o{number}")
                await system.ask(f"o{number}", Remind(after=after))
                due[f"o{number}"] = number * 3 + after
                await system.clock.advance(3)
            at = 30.0
            for name, when in sorted(due.items(), key=lambda item: item[1]):
                if when < at:
                    continue
                await system.clock.advance(when - at + 0.01)
                at = when + 0.01
                assert _notes(system, name) == ("reminder",)
            assert system.stats().timers == 0

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C21")
def test_a_machine_that_could_not_be_read_when_its_timer_was_due_is_loaded_later(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        await _remind(lives, {"o": 10.0})
        journal = _noting(lives)
        async with Lives(lambda: journal, None).begin() as system:
            journal.refuses = 3
            await system.clock.advance(11)
            assert system.ids() == []
            await system.clock.advance(5)
            assert _notes(system, "o") == ("reminder",)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23", "C24")
def test_what_was_promised_to_a_machine_that_cannot_be_read_now_is_tried_again_in_order(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin() as system:
            for name in ("a", "o"):
                await system.spawn(Order, name)
            hold(system, "o")
            for text in ("1", "2"):
                await system.ask("a", Send(to="o", text=text))
        journal = _noting(lives)
        journal.refuses, journal.refuses_only = 1, "o"
        async with Lives(lambda: journal, None).begin() as system:
            await system.ask("a", Note(text="here"))
            assert "o" not in system.ids()
            journal.refuses = 2
            await system.ask("a", Send(to="o", text="3"))
            await system.clock.advance(10)
            assert _notes(system, "o") == ("1", "2", "3")
            assert not system.dead_letters

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C23")
def test_nothing_is_loaded_at_the_start_but_what_is_due(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        await _remind(lives, {**{f"o{number}": 1e6 for number in range(50)}, "soon": 5.0})
        journal = _noting(lives)
        async with Lives(lambda: journal, None).begin() as system:
            assert journal.loaded == []
            assert system.stats().timers == 0
            await system.clock.advance(6)
            assert journal.loaded == ["soon"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_a_row_beside_the_entries_that_cannot_be_read_holds_its_machine_and_the_others_run(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        store = lives.store
        assert store is not None
        await _remind(lives, {"a": 5.0, "b": 5.0, "c": 5.0})
        due_us, text, checksum = store.timers["b", "reminder"]
        store.timers["b", "reminder"] = (due_us, text.replace("reminder", "surprise"), checksum)
        async with lives.begin() as system:
            assert system.quarantined() == ["b"]
            await system.clock.advance(6)
            assert _notes(system, "a") == _notes(system, "c") == ("reminder",)
            with pytest.raises(Quarantined, match="a timer row of b is not what was written"):
                await system.ask("b", Note(text="."))
            system.release("b")  # its entries are sound
            await system.ask("b", Note(text="."))
            await system.clock.advance(1)
            assert "reminder" in _notes(system, "b")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_a_promise_that_cannot_be_read_stays_and_its_machine_is_held(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        store = lives.store
        assert store is not None
        async with lives.begin() as system:
            for name in ("from", "a", "b"):
                await system.spawn(Order, name)
                if name != "from":
                    hold(system, name)
            for name in ("a", "b"):
                await system.ask("from", Send(to=name, text="."))
        ((key, (place, machine_id, text, checksum)), _) = store.pending.items()
        assert machine_id == "a"
        store.pending[key] = (place, machine_id, text, checksum[::-1])
        async with lives.begin() as system:
            assert system.quarantined() == ["a"]
            await system.clock.advance(1)
            assert _notes(system, "b") == (".",)
        assert list(store.pending) == [key]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C27")
def test_a_changed_row_of_a_file_holds_its_machine(sim: Callable[..., None], tmp_path: Any) -> None:
    numbers = iter(range(100))

    async def scenario() -> None:
        name = tmp_path / f"orders-{next(numbers)}.db"
        lives = Lives(lambda: name, None)
        await _remind(lives, {"a": 5.0, "b": 5.0})
        connection = sqlite3.connect(name)
        with connection:
            connection.execute("UPDATE timers SET name = 'other' WHERE machine_id = 'a'")
        connection.close()
        async with lives.begin() as system:
            assert system.quarantined() == ["a"]
            await system.clock.advance(6)
            assert _notes(system, "b") == ("reminder",)

    sim(scenario, seeds=SEEDS)
