"""C3: the order of hooks, what they may answer, and what after-hooks may do, on every path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any

import pytest

from actorfsm import (
    STAY,
    Event,
    HookFailed,
    Machine,
    Outcome,
    ReadOnly,
    Ref,
    Veto,
    Vetoed,
    after_transition,
    before_transition,
    on_enter,
    on_exit,
    transition,
)
from tests.contract.paths import (
    ASYNC_PATHS,
    PATHS,
    Path,
    Script,
    Style,
    at_rest,
    on_every_async_path,
    on_every_path,
    until,
)


class State(StrEnum):
    A = auto()
    B = auto()
    END = auto()


class Go(Event[str]):
    n: int = 0


class Again(Event): ...


class Look(Event[int]): ...


class Back(Event): ...


class Place(Event[str]):
    amount: int = 1


def machines_of(style: Style) -> Any:
    """A base class with hooks, and a subclass with more, whose hooks all play the script."""

    class Base(Machine[State, Script], hook_timeout=1):
        count: int = 0
        seen: list[str] = []

        @before_transition
        @style
        def base_before(self, old: State, new: State, event: Event) -> Any:
            return self.services.play("base_before", self)

        @on_exit(State.A)
        @style
        def base_exit(self, old: State, new: State) -> Any:
            return self.services.play("base_exit", self)

        @on_enter(State.B)
        @style
        def base_enter(self, old: State, new: State) -> Any:
            return self.services.play("base_enter", self)

        @after_transition(State.B)
        @style
        def base_after(self, old: State, new: State) -> Any:
            return self.services.play("base_after", self)

    class Child(Base, initial=State.A, final=(State.END,)):
        @after_transition
        @style
        def any_after(self, old: State, new: State) -> Any:
            return self.services.play(f"any_after({old},{new})", self)

        @on_enter()
        @style
        def any_enter(self, old: State, new: State) -> Any:
            return self.services.play(f"any_enter({old},{new})", self)

        @on_exit()
        @style
        def any_exit(self, old: State, new: State) -> Any:
            return self.services.play(f"any_exit({old},{new})", self)

        @transition(State.A, to=State.B)
        @style
        def go(self, event: Go) -> str:
            return self.services.play("body", self, f"went {event.n}")

        @before_transition
        @style
        def second_before(self, old: State, new: State) -> Any:
            return self.services.play("second_before", self)

        @before_transition
        @style
        def third_before(self, old: State, new: State) -> Any:
            return self.services.play("third_before", self)

        @transition(State.A, to=State.A)
        @style
        def again(self, event: Again) -> None:
            self.services.play("again", self)

        @transition(State.A, State.B, to=STAY)
        @style
        def look(self, event: Look) -> int:
            self.count += 1
            return self.services.play("look", self, self.count)

        @transition(State.B, to=State.A)
        @style
        def back(self, event: Back) -> None: ...

        @transition(State.A, to=State.END)
        @transition(to=State.B)
        @style
        def place(self, event: Place) -> str:
            self.count = event.amount
            return self.services.play("place", self, f"placed in {self.state}")

    return Child


CHILD = {style: machines_of(style) for style in Style}
FULL_ORDER = [
    *("base_before", "second_before", "third_before"),
    *("base_exit", "any_exit(a,b)"),
    "body",
    *("base_enter", "any_enter(a,b)"),
    *("base_after", "any_after(a,b)"),
]


@pytest.mark.rule("C3")
@on_every_path
def test_hooks_run_before_exit_body_enter_commit_reply_after_base_classes_first(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()

        def sink(record: Any) -> None:
            script.calls.append(f"record {record.name}")

        async with path.system(CHILD[path.style], services=script, trace=sink) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await at_rest(system)
            script.calls.clear()
            assert await ref.ask(Go(n=1)) == "went 1"
            await system.shutdown()
            assert script.calls == [*FULL_ORDER[:8], "record committed", *FULL_ORDER[8:]]
            path.assert_taken(system, 2)

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_async_path
def test_the_reply_is_there_before_the_after_hooks_end(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def slowly(machine: Any) -> None:
            await asyncio.sleep(0.5)
            ended.set()

        async with path.system(CHILD[path.style], services=Script(base_after=slowly)) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            assert await ref.ask(Go()) == "went 0"
            assert not ended.is_set()
            assert ref.snapshot().state is State.B
            await ended.wait()

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.parametrize("stage", [name for name in FULL_ORDER[:8] if name != "body"])
@on_every_path
def test_the_first_veto_stops_the_rest(path: Path, stage: str, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(**{stage: lambda machine: False})
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await at_rest(system)
            script.calls.clear()
            with pytest.raises(Vetoed) as caught:
                await ref.ask(Go())
            assert script.calls == FULL_ORDER[: FULL_ORDER.index(stage) + 1]
            assert caught.value.by == stage.partition("(")[0]
            assert ref.snapshot().state is State.A

    sim(scenario)


def refuse(reason: str) -> Callable[[Any], Any]:
    def raises(machine: Any) -> Any:
        raise Veto(reason)

    return raises


@pytest.mark.rule("C3")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refuse("too late"), "too late"),
        (lambda machine: Veto("too late"), "too late"),
        (lambda machine: Veto(), ""),
        (lambda machine: False, ""),
    ],
    ids=["raise Veto", "return Veto", "return Veto()", "return False"],
)
@pytest.mark.parametrize("stage", ["base_before", "base_exit", "base_enter"])
@on_every_path
def test_the_three_forms_of_a_veto_refuse_with_their_reason(
    path: Path, stage: str, answer: Callable[[Any], Any], reason: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(CHILD[path.style], services=Script(**{stage: answer})) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            with pytest.raises(Vetoed) as caught:
                await ref.ask(Go())
            assert (caught.value.by, caught.value.reason) == (stage, reason)
            assert (caught.value.machine_id, caught.value.event) == ("m", Go())
            outcome = await ref.tell(Go())
            assert (outcome.kind, outcome.success) == ("vetoed", False)
            assert outcome.reason == (reason or f"m: Go was refused by {stage}")
            assert (outcome.old, outcome.new) == (State.A, State.B)

    sim(scenario, seeds=range(2))


@pytest.mark.rule("C3")
@pytest.mark.parametrize("answer", [True, None])
@on_every_path
def test_true_and_none_allow(path: Path, answer: Any, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script(**{name: lambda machine: answer for name in FULL_ORDER[:8] if name != "body"})
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await ref.ask(Go())
            assert ref.snapshot().state is State.B

    sim(scenario)


async def nothing() -> bool:
    return True


ODD_ANSWERS: list[Any] = [3, 0, 1, "x", "", [], {}, Veto, NotImplemented, object()]


@pytest.mark.rule("C3")
@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=[repr(answer).split(" at ")[0] for answer in ODD_ANSWERS])
@pytest.mark.parametrize("stage", ["base_before", "base_exit", "base_enter"])
@on_every_path
def test_any_other_answer_is_a_failure_never_a_silent_veto(
    path: Path, stage: str, answer: Any, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        async with path.system(
            CHILD[path.style], services=Script(**{stage: lambda machine: answer})
        ) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            with pytest.raises(HookFailed, match=f"{stage} returned {type(answer).__name__}") as caught:
                await ref.ask(Go())
            assert caught.value.hook == stage
            assert isinstance(caught.value.__cause__, TypeError)
            assert ref.snapshot().state is State.A

    sim(scenario, seeds=[0])


@pytest.mark.rule("C3")
@pytest.mark.parametrize("inline", [True, False])
def test_a_plain_hook_that_returns_a_coroutine_is_a_failure_that_names_the_remedy(
    inline: bool, sim: Callable[..., None]
) -> None:
    class Forgetful(Machine[State], initial=State.A):
        @before_transition
        def check(self, old: State, new: State) -> Any:
            return nothing()

    async def scenario() -> None:
        async with Path(Style.PLAIN, inline).system(Forgetful) as system:
            ref: Ref[Any] = await system.spawn(Forgetful, "m")
            outcome = await ref.request_transition(State.B)
            assert outcome.kind == "failed"
            assert outcome.error is not None
            assert "async def" in outcome.error.text

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_an_exit_hooks_changes_do_not_survive_a_veto(path: Path, sim: Callable[..., None]) -> None:
    def change(machine: Any) -> None:
        machine.count += 10
        machine.seen.append("exit")

    async def scenario() -> None:
        script = Script(base_exit=change, base_enter=lambda machine: False)
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            with pytest.raises(Vetoed):
                await ref.ask(Go())
            assert ref.snapshot().data == {"count": 0, "seen": []}
            script.does.pop("base_enter")
            await ref.ask(Go())
            assert ref.snapshot().data == {"count": 10, "seen": ["exit"]}

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_stay_runs_body_and_commit_but_no_hooks(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await at_rest(system)
            script.calls.clear()
            assert await ref.ask(Look()) == 1
            await at_rest(system)
            assert await ref.ask(Look()) == 2
            assert script.calls == ["look", "look"]
            assert (ref.snapshot().state, ref.snapshot().data["count"], ref.snapshot().seq) == (State.A, 2, 3)
            path.assert_taken(system, 3)

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_transition_to_its_own_state_runs_all_hooks(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await at_rest(system)
            script.calls.clear()
            await ref.ask(Again())
            await system.shutdown()
            assert script.calls == [
                *("base_before", "second_before", "third_before", "base_exit", "any_exit(a,a)", "again"),
                *("any_enter(a,a)", "any_after(a,a)"),
            ]

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_a_birth_runs_body_enter_and_after_with_old_equal_to_new(
    path: Path, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script()
        async with path.system(CHILD[path.style], services=script) as system:
            await system.spawn(CHILD[path.style], "spawned")
            await at_rest(system)
            assert await system.ask("born", Place()) == "placed in b"
            await system.shutdown()
            assert script.calls == [
                *("any_enter(a,a)", "any_after(a,a)"),
                *("place", "base_enter", "any_enter(b,b)", "base_after", "any_after(b,b)"),
            ]

    sim(scenario)


# -- after-hooks ------------------------------------------------------------------------------------------------------


def assign(machine: Any) -> None:
    machine.count = 99


READ_ONLY: dict[str, Callable[[Any], Any]] = {
    "assignment": assign,
    "self.tell": lambda machine: machine.tell("m", Look()),
    "next_event": lambda machine: machine.next_event(Look()),
    "stop": lambda machine: machine.stop(),
    "ref.tell": lambda machine: machine.services.ref.tell(Look()),
    "request_transition": lambda machine: machine.services.ref.request_transition(State.A),
}


@pytest.mark.rule("C3")
@pytest.mark.parametrize("what", READ_ONLY)
@on_every_path
def test_what_changes_or_sends_in_an_after_hook_is_an_error_that_names_the_remedy(
    path: Path, what: str, sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script: Any = Script(base_after=READ_ONLY[what])
        records: list[Any] = []
        async with path.system(CHILD[path.style], services=script, trace=records.append) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            script.ref = ref
            assert await ref.ask(Go(), event_id="go-1") == "went 0"
            await system.shutdown()
            (failed,) = (record for record in records if record.name == "after_hook_failed")
            assert isinstance(failed.error, ReadOnly)
            assert "body or in an enter hook" in str(failed.error)
            assert (failed.event_id, failed.hook) == ("go-1", "base_after")
            # the hooks after it ran, and the event stays committed
            assert script.calls[-1] == "any_after(a,b)"
            assert ref.snapshot().data == {"count": 0, "seen": []}
            assert (ref.snapshot().state, ref.snapshot().seq) == (State.B, 2)
            assert system.stats().accepted == 2

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.parametrize("what", READ_ONLY)
@pytest.mark.parametrize("inline", [True, False])
def test_a_guard_is_read_only_too(inline: bool, what: str, sim: Callable[..., None]) -> None:
    def guard(machine: Any, event: Go) -> bool:
        READ_ONLY[what](machine)
        return True

    class Guarded(Machine[State, Any], initial=State.A, final=(State.B, State.END)):
        count: int = 0

        @transition(State.A, to=State.B, when=guard)
        def go(self, event: Go) -> str:
            return "went"

        @transition(State.A, to=STAY)
        def look(self, event: Look) -> int:
            return 0

        @transition(State.A, to=State.END)
        def end(self, event: Back) -> None: ...

    async def scenario() -> None:
        script: Any = Script()
        async with Path(Style.PLAIN, inline).system(Guarded, services=script) as system:
            ref: Ref[Any] = await system.spawn(Guarded, "m")
            script.ref = ref
            with pytest.raises(HookFailed) as caught:
                await ref.ask(Go())
            assert caught.value.hook == "guard"
            assert isinstance(caught.value.__cause__, ReadOnly)
            assert ref.snapshot().seq == 1

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.parametrize("body_writes", ["nothing", "a plain field", "the nested field"])
@on_every_path
def test_nested_changes_in_an_after_hook_have_no_effect_on_the_committed_data(
    path: Path, body_writes: str, sim: Callable[..., None]
) -> None:
    def write(machine: Any) -> None:
        if body_writes == "a plain field":
            machine.count = 7
        elif body_writes == "the nested field":
            machine.seen.append("body")

    async def scenario() -> None:
        script = Script(body=write, base_after=lambda machine: machine.seen.append("after"))
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await ref.ask(Go())
            await until(lambda: "any_after(a,b)" in script.calls)
            assert ref.snapshot().data["seen"] == (["body"] if body_writes == "the nested field" else [])
            await ref.ask(Back())
            await ref.ask(Go())
            assert "after" not in ref.snapshot().data["seen"]

    sim(scenario)


@pytest.mark.rule("C3")
@on_every_path
def test_an_after_hook_sees_the_data_as_it_was_committed(path: Path, sim: Callable[..., None]) -> None:
    async def scenario() -> None:
        seen: list[Any] = []
        script = Script(
            body=lambda machine: setattr(machine, "count", "7"),  # validated to a number at the commit
            base_after=lambda machine: seen.append((machine.count, machine.state)),
        )
        async with path.system(CHILD[path.style], services=script) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            await ref.ask(Go())
        assert seen == [(7, State.B)]

    sim(scenario)


def fail(machine: Any) -> Any:
    raise ValueError("the audit log is full")


async def hang(machine: Any) -> Any:
    await asyncio.sleep(1_000)


AFTER_FAULTS = [
    pytest.param(path, fault, error, id=f"{path}-{fault.__name__}")
    for path in PATHS
    for fault, error in ((fail, ValueError), (hang, TimeoutError))
    if path.is_async or fault is not hang
]


@pytest.mark.rule("C3")
@pytest.mark.parametrize(("path", "fault", "error"), AFTER_FAULTS)
def test_an_after_hook_that_raises_or_is_too_slow_is_recorded_and_the_event_stays_committed(
    path: Path, fault: Callable[[Any], Any], error: type[Exception], sim: Callable[..., None]
) -> None:
    async def scenario() -> None:
        script = Script(base_after=fault)
        records: list[Any] = []
        told: list[Outcome] = []
        async with path.system(CHILD[path.style], services=script, trace=records.append) as system:
            ref: Ref[Any] = await system.spawn(CHILD[path.style], "m")
            records.clear()
            outcome = await ref.tell(Go(), event_id="go-1", callback=told.append)
            assert (outcome.kind, outcome.success, outcome.reply) == ("committed", True, "went 0")
            # the machine goes on with the next event
            assert await ref.ask(Look(), event_id="look-1") == 1
            assert [(record.name, record.event_id, record.hook) for record in records] == [
                ("committed", "go-1", None),
                ("after_hook_failed", "go-1", "base_after"),
                ("committed", "look-1", None),
            ]
            assert isinstance(records[1].error, error)
            assert system.stats().after_hooks_failed == 1
            assert system.stats().restarts == 0
            assert "any_after(a,b)" in script.calls
        assert [outcome.kind for outcome in told] == ["committed"]

    sim(scenario)


def detached_of(style: Style) -> Any:
    class Detached(Machine[State, Script], initial=State.A, final=(State.END,), hook_timeout=1):
        count: int = 0
        seen: list[str] = []

        @transition(State.A, to=State.B)
        @style
        def go(self, event: Go) -> str:
            self.count += 1
            self.seen.append("went")
            return "went"

        @transition(State.B, to=STAY)
        @style
        def look(self, event: Look) -> int:
            self.count += 1
            self.seen.append("looked")
            return self.count

        @transition(State.B, to=State.END)
        @style
        def end(self, event: Back) -> None: ...

        @after_transition(State.B, detached=True)
        async def beside(self, old: State, new: State) -> None:
            await self.services.play("beside", self)

    return Detached


@pytest.mark.rule("C3")
@pytest.mark.parametrize("path", ASYNC_PATHS, ids=str)
def test_a_detached_after_hook_does_not_hold_the_machine_and_sees_the_data_as_committed(
    path: Path, sim: Callable[..., None]
) -> None:
    cls = detached_of(path.style)

    async def scenario() -> None:
        seen: list[Any] = []

        async def beside(machine: Any) -> None:
            await asyncio.sleep(0.5)
            seen.append((machine.count, list(machine.seen), machine.id))
            machine.seen.append("beside")
            seen.append("changed a copy")

        async with path.system(cls, services=Script(beside=beside)) as system:
            ref: Ref[Any] = await system.spawn(cls, "m")
            await ref.ask(Go())
            assert await ref.ask(Look()) == 2  # the machine is not held
            assert seen == []
            await ref.ask(Back())
            await asyncio.sleep(0.6)
            assert seen == [(1, ["went"], "m"), "changed a copy"]
            assert ref.snapshot().data == {"count": 2, "seen": ["went", "looked"]}
            path.assert_taken(system, 4)

    sim(scenario)


@pytest.mark.rule("C3")
@pytest.mark.parametrize(
    ("fault", "error"),
    [(fail, ValueError), (hang, TimeoutError), (assign, ReadOnly)],
    ids=["raise", "hang", "write"],
)
@pytest.mark.parametrize("path", ASYNC_PATHS, ids=str)
def test_a_detached_after_hook_that_fails_is_recorded_with_the_events_id(
    path: Path, fault: Callable[[Any], Any], error: type[Exception], sim: Callable[..., None]
) -> None:
    cls = detached_of(path.style)

    async def scenario() -> None:
        async def beside(machine: Any) -> None:
            result = fault(machine)
            if result is not None:
                await result

        records: list[Any] = []
        async with path.system(cls, services=Script(beside=beside), trace=records.append) as system:
            ref: Ref[Any] = await system.spawn(cls, "m")
            await ref.ask(Go(), event_id="go-1")
            await system.shutdown()
            (failed,) = (record for record in records if record.name == "after_hook_failed")
            assert (failed.event_id, failed.hook, type(failed.error)) == ("go-1", "beside", error)
            assert system.stats().after_hooks_failed == 1
            assert system.stats().outcomes["committed"] == 2

    sim(scenario)
