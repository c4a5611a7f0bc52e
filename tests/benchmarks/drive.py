"""The senders of the asyncio contenders: W1 (ask), W2 (tell: round, burst) and W4 (hot).

One copy for all contenders, so that a difference in the table is a difference of the runtimes. The clock runs
from the first send until the last event has been answered, and sees nothing else.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .work import AMOUNT, AsyncContender, Load, Run, Session, Workload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


async def drive(contender: AsyncContender, workload: Workload, load: Load) -> Run:
    """Open the contender, time one workload on it, and look at every machine."""
    ids = load.ids
    async with contender.open(ids) as session:
        started = perf_counter()
        match workload:
            case Workload.ASK:
                await _ask_all(session, load, per_send=contender.build_per_send)
            case Workload.HOT:
                await _sender(session, ids, load.events, per_send=contender.build_per_send)
            case Workload.ROUND:
                await _tell_all(session, load, turn=True)
            case Workload.BURST:
                await _tell_all(session, load, turn=False)
        seconds = perf_counter() - started
        return Run(seconds, [session.end(machine_id) for machine_id in ids])


async def _ask_all(session: Session, load: Load, *, per_send: bool) -> None:
    await asyncio.gather(*(_sender(session, hand, load.events, per_send=per_send) for hand in load.hands()))


def _sender(session: Session, ids: Sequence[str], events: int, *, per_send: bool) -> Awaitable[None]:
    if per_send:
        return _build_and_ask(session.ask, session.make_event, ids, events)
    return _ask_one_after_the_other(session.ask, session.make_event(AMOUNT), ids, events)


async def _ask_one_after_the_other(
    ask: Callable[[str, Any], Any], event: object, ids: Sequence[str], events: int
) -> None:
    for _ in range(events):
        for machine_id in ids:
            await ask(machine_id, event)


async def _build_and_ask(
    ask: Callable[[str, Any], Any], make_event: Callable[[int], Any], ids: Sequence[str], events: int
) -> None:
    for _ in range(events):
        for machine_id in ids:
            await ask(machine_id, make_event(AMOUNT))


async def _tell_all(session: Session, load: Load, *, turn: bool) -> None:
    tell, tell_last = session.tell, session.tell_last
    if tell is None or tell_last is None:
        msg = "this contender cannot tell"
        raise NotImplementedError(msg)
    ids = load.ids
    event = session.make_event(AMOUNT)
    for _ in range(load.events - 1):
        for machine_id in ids:
            tell(machine_id, event)
        if turn:
            await asyncio.sleep(0)
    for handled in [tell_last(machine_id, event) for machine_id in ids]:
        await handled
