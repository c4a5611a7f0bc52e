"""C31 with a journal: a machine that an operator holds is still held in the next life."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actorfsm import Child, Expired
from tests.contract.durable import Lives, Note, Order, Pay, Remind, S, Send, Ship, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
pytestmark = pytest.mark.rule("C31")
SEEDS = range(2)


@pytest.mark.parametrize("is_static", [False, True])
def test_a_suspended_machine_is_still_suspended_in_the_next_life(
    sim: Callable[..., None], lives_of: Callable[[], Lives], is_static: bool
) -> None:
    async def scenario() -> None:
        lives, children = lives_of(), [Child(Order, "o"), Child(Order, "b")] if is_static else []
        async with lives.begin(Order, children=children) as system:
            for name in ("o", "b"):
                await system.get_or_spawn(Order, name)
            await system.ask("o", Remind(after=0.5, name="due"))
            system.suspend("o")
            await system.ask("b", Send(to="o", text="kept"))
            await system.shutdown(queues="abandon")
        for _ in range(2):
            async with lives.begin(Order, children=children) as system:
                await system.clock.advance(1)
                assert system.suspended() == ["o"]
                with pytest.raises(Expired):
                    await system.ask("o", Note(text="x"), timeout=1)
                assert system.snapshot("o").data["notes"] == ()
                await system.shutdown(queues="abandon")
        async with lives.begin(Order, children=children) as system:
            await system.clock.advance(1)
            system.resume("o")
            await system.ask("o", Note(text="."))
            assert sorted(system.snapshot("o").data["notes"]) == [".", "due", "kept"]
        async with lives.begin(Order, children=children) as system:
            await system.ask("o", Note(text="."))
            assert system.suspended() == []

    sim(scenario, seeds=SEEDS)


def test_a_machine_that_is_suspended_during_its_last_event_stays_finished_and_suspended(
    sim: Callable[..., None], lives_of: Callable[[], Lives]
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin() as system:
            order = await system.spawn(Order, "o")
            await order.ask(Pay(amount=1))
            told = order.tell(Ship())
            system.suspend("o")
            system.resume("o")
            assert (await told).success
            system.suspend("o")
        async with lives.begin() as system:
            await system.clock.advance(1)
            assert system.suspended() == ["o"]
            assert system.snapshot("o").state is S.SHIPPED
            system.resume("o")
        async with lives.begin() as system:
            await system.get_or_spawn(Order, "o")
            assert (system.suspended(), system.snapshot("o").state) == ([], S.SHIPPED)

    sim(scenario, seeds=SEEDS)
