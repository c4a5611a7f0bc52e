"""What refs and envelopes look like, and small refusals that nothing else passes through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from actorfsm import ActorSystem, DefinitionError, StaleTurn
from actorfsm.event import Outcome
from actorfsm.runtime.envelope import Envelope
from tests.contract.lamp import Count, lamp_of
from tests.contract.paths import Path, Script, Style

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_ref_and_an_envelope_say_what_they_are_for(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        lamp_class = lamp_of(path.style)
        async with path.system(lamp_class, services=Script()) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            assert repr(lamp) == f"Ref({lamp_class.__name__}, 'lamp')"
            assert hash(lamp) == hash(system.ref(lamp_class, "lamp"))
        assert repr(Envelope(Count(), "lamp", 7, 0.0)) == "<Count #7 for lamp>"

    sim(scenario)


@pytest.mark.rule("C30")
@pytest.mark.parametrize("trace", [3, "a file", [print, 3]])
def test_what_is_no_sink_is_refused_when_the_system_is_made(trace: Any) -> None:
    with pytest.raises(DefinitionError, match="give a sink"):
        ActorSystem(lamp_of(Style.PLAIN), trace=trace)


@pytest.mark.rule("C19")
def test_a_callback_that_comes_after_the_end_is_reported_and_not_called(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        called: list[Any] = []
        async with path.system(lamp_of(path.style), services=Script()) as system:
            pass
        late = Envelope(Count(), "lamp", 7, 0.0)
        late.callback = called.append
        outcome = Outcome(kind="expired", success=False, machine_id="lamp", event_type="Count", event_id="7")
        system._parts.callbacks.add(late, outcome)
        assert (called, system.stats().callbacks_failed) == ([], 1)

    sim(scenario)


@pytest.mark.rule("C13")
def test_a_bound_method_of_a_turn_that_is_kept_sends_nothing_after_it(sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        path = Path(Style.ASYNC, inline=True)
        lamp_class = lamp_of(path.style)
        kept: list[Any] = []
        script = Script(count=lambda machine: kept.append(machine._turn))
        async with path.system(lamp_class, services=script) as system:
            lamp = await system.spawn(lamp_class, "lamp")
            await lamp.ask(Count())
            for send in (kept[0].stop, lambda: kept[0].next_event(Count())):
                with pytest.raises(StaleTurn):
                    send()
            assert system.ids() == ["lamp"]

    sim(scenario)
