"""The machine of P5, whose hooks do what its events say, so that model and machine can be told the same."""

from __future__ import annotations

import asyncio
from enum import StrEnum, auto
from typing import Any

from actorfsm import (
    STAY,
    Directive,
    Event,
    Machine,
    RestartPolicy,
    Spawn,
    StateTimeout,
    Terminated,
    TimerScope,
    Veto,
    before_transition,
    on_enter,
    on_exit,
    on_timeout,
    postpone,
    transition,
)
from tests.campaigns.p5.model import (
    ATTEMPTS,
    LIMIT_OF_C_S,
    LONGEST_PAUSE_S,
    MAX_RESTARTS,
    REMEMBERED,
    STABLE_S,
    WITHIN_S,
    delay_of,
)

IDS = ("a", "b", "c")
ALWAYS = ("s", "t", "u")
"""The machines of the tree: they do not end, but are restarted when one of their events fails."""
INSTEAD = {"end": "go", "late": "stay"}
"""What they are sent instead: no record says whether one was postponed before its supervisor stopped the machine."""
POLICY = {"within_s": WITHIN_S, "max_delay_s": LONGEST_PAUSE_S, "jitter": 0.0, "stable_after_s": STABLE_S}


class S(StrEnum):
    A = auto()
    B = auto()
    C = auto()
    END = auto()


class Told(Event[str]):
    """What the sender wants to happen, so that model and machine can be told the same."""

    tag: str
    fate: str = "ok"
    at: str = "body"
    slow: int = 0
    own: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    timer: str = ""
    watch: str = ""


class Go(Told): ...


class Stay(Told): ...


class Late(Told): ...


class End(Told): ...


class Note(Told): ...


class Birth(Told): ...


CLASSES: dict[str, type[Told]] = {
    "go": Go,
    "stay": Stay,
    "late": Late,
    "end": End,
    "note": Note,
    "birth": Birth,
}


SCOPES = {"state": TimerScope.STATE, "event": TimerScope.EVENT}


def tag_of(event: Any) -> str:
    """Return what the model knows an event by."""
    match event:
        case None:
            return ""
        case Spawn():
            return "spawn"
        case StateTimeout():
            return event.name
        case Terminated():
            return f"end {event.machine_id}"
        case _:
            return str(event.tag)


class Item(
    Machine[S],
    initial=S.A,
    final=(S.END,),
    remembered_ids=REMEMBERED,
    timer_attempts=ATTEMPTS,
    on_failure={LookupError: Directive.RESTART, ArithmeticError: Directive.STOP},
    restart=RestartPolicy(
        max_restarts=MAX_RESTARTS,
        first_delay_s=1.0,
        **POLICY,
    ),
):
    log: list[str] = []
    nested: dict[str, list[str]] = {}
    count: int = 0

    async def visit(self, step: str, event: Any) -> None:
        tag = tag_of(event)
        self.log.append(f"{tag}:{step}")
        self.nested.setdefault(tag, []).append(step)
        self.count += 1
        await asyncio.sleep(0)
        if isinstance(event, Told):
            if step == "body":
                for n, kind in enumerate(event.own):
                    self.next_event(CLASSES[kind](tag=f"{tag}^{n}"))
                for to in event.to:
                    self.tell(to, Note(tag=f"{tag}>{to}"))
                self.use_time(event)
            if step == event.at:
                await self.meet(event)

    def use_time(self, event: Told) -> None:
        if event.timer == "cancel":
            self.cancel_timer("named")
        elif event.timer:
            failing = event.timer == "failing"
            self.start_timer(
                Note(tag=f"{event.tag}~", fate="fail" if failing else "ok"),
                after=delay_of(event.tag),
                name="named" if failing else event.timer,
                scope=SCOPES.get(event.timer, TimerScope.NAMED),
            )
        watched = event.watch.removeprefix("-")
        if watched and watched != self.id:
            (self.watch if watched == event.watch else self.unwatch)(watched)

    async def meet(self, event: Told) -> None:
        if event.slow:
            await asyncio.sleep(event.slow)
        match event.fate:
            case "veto":
                raise Veto("as told")
            case "fail":
                raise ValueError("as told")
            case "restart":
                raise LookupError("as told")
            case "fatal":
                raise ArithmeticError("as told")
            case "bad":
                self.nested["bad"] = "no list"

    @before_transition
    async def before(self, old: S, new: S, event: Event) -> None:
        await self.visit("before", event)

    @on_exit()
    async def leave(self, old: S, new: S, event: Event) -> None:
        await self.visit("exit", event)

    @on_enter()
    async def enter(self, old: S, new: S, event: Event) -> None:
        await self.visit("enter", event)

    @transition(S.A, to=S.B)
    @transition(S.B, to=S.C)
    @transition(S.C, to=S.A)
    async def go(self, event: Go) -> str:
        return await self.answer(event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def stay(self, event: Stay | Note) -> str:
        return await self.answer(event)

    @postpone(S.A)
    @transition(S.B, to=S.C)
    @transition(S.C, to=STAY)
    async def late(self, event: Late) -> str:
        return await self.answer(event)

    @transition(S.A, S.C, to=S.END)
    async def end(self, event: End) -> str:
        return await self.answer(event)

    @on_timeout(S.C, after=LIMIT_OF_C_S, to=S.A)
    async def overdue(self, event: StateTimeout) -> None:
        await self.visit("body", event)

    @transition(S.A, S.B, S.C, to=STAY)
    async def ended(self, event: Terminated) -> None:
        await self.visit("body", event)

    @transition(to=S.A)
    async def birth(self, event: Birth) -> str:
        return await self.answer(event)

    async def answer(self, event: Told) -> str:
        await self.visit("body", event)
        return event.tag
