"""C28: what an older version of the code has stored is read by way of upcasts, or refused with its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actorfsm import EventIdConflict, NotStored, Quarantined, TransitionRequested
from actorfsm.journal.memory import MemoryJournal
from tests.contract import shop_v1, shop_v2
from tests.contract.durable import Lives, hold, in_memory, lives_on_every_journal

__all__ = ["lives_on_every_journal"]
LivesOf = Callable[[], Lives]
SEEDS = range(2)


@pytest.mark.rule("C28")
def test_state_and_data_of_an_older_version_come_through_the_chain_of_upcasts(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(shop_v1.Order) as system:
            await (await system.spawn(shop_v1.Order, "o")).ask(shop_v1.Pay(amount=5))
        for _ in range(2):  # reading it changed nothing, so that it is read again
            async with lives.begin(shop_v2.PurchaseOrder) as system:
                snapshot = (await system.get_or_spawn(shop_v2.PurchaseOrder, "o")).snapshot()
                assert snapshot.state is shop_v2.S.CHARGED
                assert snapshot.data == {"cents": 500, "remarks": (), "was": "CHARGED"}
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            await system.ask("o", shop_v2.Ship())
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            snapshot = (await system.get_or_spawn(shop_v2.PurchaseOrder, "o")).snapshot()
            assert (snapshot.state, snapshot.data["cents"]) == (shop_v2.S.DONE, 500)

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_the_first_entry_of_the_new_version_has_the_data_anew_also_if_they_did_not_change(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(shop_v1.Order) as system:
            for name in ("committed", "postponed", "fenced"):
                await system.spawn(shop_v1.Order, name)
                if name != "postponed":
                    await system.ask(name, shop_v1.Pay(amount=1))
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            await system.ask("committed", shop_v2.Ship())  # a commit that leaves the data alone
            system.tell("postponed", shop_v2.Remark(words=("x",), is_loud=True))  # an entry that is no commit
            fates = iter(["not stored"])
            lives.store.fate = lambda: next(fates, "stored")
            with pytest.raises(NotStored):
                await system.ask("fenced", shop_v2.Ship())
            await system.ask("fenced", shop_v2.Ship())  # the second attempt has them too
            await system.clock.advance(1)
        async with MemoryOf(lives) as journal:
            for name in ("committed", "postponed", "fenced"):
                entries = await journal.entries(name)
                assert entries[-1].data is not None
                assert entries[-1].data[:2] == ("PurchaseOrder", 3)
                assert entries[-1].definition != entries[0].definition

    sim(scenario, seeds=SEEDS)


class MemoryOf:
    """The journal in memory, to look at."""

    def __init__(self, lives: Lives) -> None:
        assert lives.store is not None
        self._journal = MemoryJournal(lives.store)

    async def __aenter__(self) -> MemoryJournal:
        await self._journal.open()
        return self._journal

    async def __aexit__(self, *_exc: object) -> None:
        await self._journal.close()


@pytest.mark.rule("C28")
def test_postponed_and_promised_events_and_timers_of_an_older_version_are_upcast(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(shop_v1.Order) as system:
            sender, order = [await system.spawn(shop_v1.Order, name) for name in ("s", "o")]
            order.tell(shop_v1.Note(text="two words"))
            await order.ask(shop_v1.Remind(after=50))
            hold(system, "o")
            await sender.ask(shop_v1.Send(to="o"))
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            await system.ask("o", shop_v2.Pay(cents=1))
            await system.clock.advance(60)
            assert system.snapshot("o").data["remarks"] == ("two", "words", "from", "s", "a", "reminder")
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            await system.get_or_spawn(shop_v2.PurchaseOrder, "o")
            assert [timer.name for timer in system.inspect("o").timers] == ["too_late"]

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
@pytest.mark.parametrize("waits", [True, False])
def test_a_timeout_that_has_another_name_comes_under_that(
    sim: Callable[..., None], lives_of: LivesOf, waits: bool
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(shop_v1.Order) as system:
            await (await system.spawn(shop_v1.Order, "o")).ask(shop_v1.Pay(amount=5))
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            order = await system.get_or_spawn(shop_v2.PurchaseOrder, "o")
            if not waits:
                await order.ask(shop_v2.Remind(after=1))  # the first entry says that its name is another
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            await system.clock.advance(3700)
            snapshot = system.snapshot("o")
            assert (snapshot.state, snapshot.data["remarks"]) == (shop_v2.S.OPEN, ("late",))
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            await system.get_or_spawn(shop_v2.PurchaseOrder, "o")
            assert system.inspect("o").timers == ()

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_recorded_reply_of_an_older_version_is_upcast_also_when_its_entry_was_trimmed(
    sim: Callable[..., None],
) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(shop_v1.Order) as system:
            for name in ("o", "trimmed"):
                order = await system.spawn(shop_v1.Order, name)
                await order.ask(shop_v1.Pay(amount=5), event_id="pay")
        async with MemoryOf(lives) as journal:
            await journal.snapshot("trimmed", keep=0)
        async with lives.begin(shop_v2.PurchaseOrder) as system:
            for name in ("o", "trimmed"):
                slip = shop_v2.Slip(text=f"R-{name}", currency="EUR")
                assert await system.ask(name, shop_v2.Pay(cents=500), event_id="pay") == slip
                outcome = await system.tell(name, shop_v2.Pay(cents=500), event_id="pay").outcome()
                assert (outcome.duplicate, outcome.old, outcome.new) == (
                    True,
                    shop_v2.S.OPEN,
                    shop_v2.S.CHARGED,
                )
                assert system.snapshot(name).data["cents"] == 500
            with pytest.raises(EventIdConflict):  # another amount is another event, in any version
                await system.ask("o", shop_v2.Pay(cents=600), event_id="pay")
            with pytest.raises(EventIdConflict):
                await system.ask("trimmed", shop_v2.Ship(), event_id="pay")

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_what_newer_code_has_stored_is_refused_by_older_code_and_is_there_for_the_newer(
    sim: Callable[..., None], lives_of: LivesOf
) -> None:
    async def scenario() -> None:
        lives = lives_of()
        async with lives.begin(shop_v2.Parcel) as system:
            await system.spawn(shop_v2.Parcel, "p")
        async with lives.begin(shop_v1.Parcel) as system:
            with pytest.raises(
                Quarantined, match=r"entry 1 .* Parcel version 2: it was stored by newer code"
            ):
                await system.get_or_spawn(shop_v1.Parcel, "p")
        async with lives.begin(shop_v2.Parcel) as system:
            assert (await system.get_or_spawn(shop_v2.Parcel, "p")).snapshot().state is shop_v2.P.WRAPPED

    sim(scenario, seeds=SEEDS)


@pytest.mark.rule("C28")
def test_a_promised_request_for_a_state_that_has_another_name_leads_there(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        lives = in_memory()
        async with lives.begin(shop_v1.Parcel) as system:
            parcel = await system.spawn(shop_v1.Parcel, "p")
            assert (await parcel.request_transition(shop_v1.P.PACKED).outcome()).success
            event = TransitionRequested(to=shop_v1.P.PACKED)
            outcome = await parcel.tell(event, event_id="back").outcome()
            assert outcome.new is shop_v1.P.PACKED
        async with lives.begin(shop_v2.Parcel) as system:
            again = await system.tell(
                "p", TransitionRequested(to=shop_v2.P.WRAPPED), event_id="back"
            ).outcome()
            assert (again.duplicate, again.new) == (True, shop_v2.P.WRAPPED)

    sim(scenario, seeds=SEEDS)
