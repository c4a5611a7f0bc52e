"""From decorators to a definition: the marks of a class and its bases become states, transitions and steps."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from actorfsm.errors import DefinitionError
from actorfsm.event import (
    Event,
    Spawn,
    StateTimeout,
    Terminated,
    TransitionRequested,
    reply_annotation,
    shares_nothing,
)
from actorfsm.machine import signatures
from actorfsm.machine.decorators import (
    STAY,
    BlockingMark,
    HookMark,
    Mark,
    PostponeMark,
    RefuseMark,
    TimeoutMark,
    TransitionMark,
    marks_inside,
    marks_of,
)
from actorfsm.machine.definition import (
    POSTPONE,
    Choice,
    Definition,
    EventSpec,
    Hook,
    Reply,
    StateNode,
    Step,
    Transition,
)
from actorfsm.machine.draft import giving, in_thread
from actorfsm.machine.timers import StateTimer
from actorfsm.values import is_immutable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from enum import Enum

    from actorfsm.machine.options import MachineOptions

__all__ = ["build_definition", "marked_in"]

EventClass = type[Event[Any, Any]]


def build_definition(
    cls: Any,
    state_class: type[Enum],
    *,
    initial: Enum | None,
    final: tuple[Enum, ...],
    options: MachineOptions,
    namespace: dict[str, Any],
) -> Definition:
    """Read a machine class into its definition.

    Args:
        cls: The class.
        state_class: Its Enum of states.
        initial: Where `spawn` leads, or None.
        final: The states in which its life ends.
        options: Its other choices.
        namespace: Names for annotations that are not found in the methods' modules.

    Raises:
        DefinitionError: It cannot be read. What it says may still be wrong: see `checks`.
    """
    return _Builder(cls, state_class, options, namespace).build(initial, final)


class _Builder:
    def __init__(
        self, cls: Any, state_class: type[Enum], options: MachineOptions, namespace: dict[str, Any]
    ) -> None:
        self.cls = cls
        self.namespace: dict[str, Any] = {**vars(cls), cls.__name__: cls, **namespace}
        root = StateNode("(unborn)", None, None)
        states = {member: StateNode(member.name, member, root) for member in state_class}
        root.children = list(states.values())
        self.definition = Definition(cls.__name__, cls, state_class, options, root, states)
        self.methods = list(_marked_methods(cls))
        self.hooks = [self._hook(name, function, mark) for name, function, mark in self._marks(HookMark)]
        self.choices: dict[tuple[int, EventClass], list[Choice]] = {}

    def build(self, initial: Enum | None, final: tuple[Enum, ...]) -> Definition:
        definition = self.definition
        for member in final:
            self._node(f"final=(...) of {definition.name}", member).final = True
        definition.initial = (
            None if initial is None else self._node(f"initial= of {definition.name}", initial)
        )
        definition.any_to_any = not any(True for _ in self._marks((TransitionMark, TimeoutMark)))
        for name, function, mark in self._marks(TimeoutMark):
            self._start_in(
                name, function, mark
            )  # before the edges, which know whether their target has timers
        for name, function, mark in self._marks(TransitionMark):
            self._declare(name, function, mark)
        for name, function, mark in self._marks(TimeoutMark):
            self._time_out(name, function, mark)
        for name, function, mark in self._marks(PostponeMark):
            self._postpone(name, function, mark)
        for name, function, mark in self._marks(RefuseMark):
            self._refuse(name, function, mark)
        if definition.any_to_any:
            self._connect_all()
        if definition.initial is not None:
            birth = self._edge("spawn", Spawn, definition.root, definition.initial, None)
            self._add(definition.root, Spawn, birth)
        self._finish()
        return definition

    def _marks(
        self, kind: type[Any] | tuple[type[Any], ...]
    ) -> Iterator[tuple[str, Callable[..., Any], Any]]:
        for name, function, marks in self.methods:
            for mark in marks:
                if isinstance(mark, kind):
                    yield name, function, mark

    def _hook(self, name: str, function: Callable[..., Any], mark: HookMark) -> Hook:
        owner = f"{self.cls.__name__}.{name}"
        for state in mark.states:
            self._node(owner, state)
        accepts = signatures.hook_events(owner, function, self.namespace)
        function = self._giving(name, function)
        if mark.kind == "after" and name in self.definition.given:
            raise DefinitionError(
                f"{owner}: an after-hook runs when the transaction is committed and over: write the row in the body or "
                "in an enter hook, or open a session of your own here"
            )
        step = Step(
            name,
            mark.kind,
            function,
            2 if accepts is None else 3,
            signatures.is_async(function),
            mark.timeout_s or self.definition.options.hook_timeout_s,
            mark.detached,
            mark.durable,
        )
        return Hook(step, mark.states, accepts)

    def _declare(self, name: str, function: Callable[..., Any], mark: TransitionMark) -> None:
        owner = f"{self.cls.__name__}.{name}"
        events = signatures.body_events(owner, function, self.namespace)
        if StateTimeout in events:
            raise DefinitionError(
                f"{owner}: StateTimeout comes of itself: write @on_timeout(STATE, after=...)"
            )
        if mark.to is STAY and not mark.sources:
            raise DefinitionError(f"{owner}: a birth needs a state to be born in, not STAY")
        body = self._body(name, function, mark)
        sources = [self._node(owner, source) for source in mark.sources] or [self.definition.root]
        for event_class in events:
            self._check_return(owner, function, event_class)
            for source in sources:
                target = source if mark.to is STAY else self._node(owner, mark.to)
                edge = self._edge(
                    name, event_class, source, target, body, when=mark.when, stays=mark.to is STAY
                )
                self._add(source, event_class, edge)

    def _start_in(self, name: str, function: Callable[..., Any], mark: TimeoutMark) -> None:
        owner = f"{self.cls.__name__}.{name}"
        if signatures.body_events(owner, function, self.namespace) != (StateTimeout,):
            raise DefinitionError(
                f"{owner}: what @on_timeout stands above is written (self, event: StateTimeout)"
            )
        timer = StateTimer(name, mark.after_s, StateTimeout(name=name))
        for state in mark.states:
            node = self._node(owner, state)
            if any(other.name == name for other in node.timers):
                raise DefinitionError(f"{owner}: two timeouts of one name in {node.name}; use two methods")
            if node.final:
                raise DefinitionError(
                    f"{owner}: {node.name} is final, its timers would be cancelled; take the state out of final=(...) "
                    "or the timeout away"
                )
            node.timers += (timer,)

    def _time_out(self, name: str, function: Callable[..., Any], mark: TimeoutMark) -> None:
        owner = f"{self.cls.__name__}.{name}"
        self._check_return(owner, function, StateTimeout)
        body = self._body(name, function, mark)
        for state in mark.states:
            source = self._node(owner, state)
            target = source if mark.to is STAY else self._node(owner, mark.to)
            edge = self._edge(name, StateTimeout, source, target, body, when=mark.when, stays=mark.to is STAY)
            self._add(source, StateTimeout, edge)

    def _body(self, name: str, function: Callable[..., Any], mark: TransitionMark | TimeoutMark) -> Step:
        if mark.when is not None:
            signatures.guard_is_callable(f"{self.cls.__name__}.{name}", mark.when)
        function = self._giving(name, function)
        return Step(
            name,
            "body",
            function,
            1,
            signatures.is_async(function),
            mark.timeout_s or self.definition.options.hook_timeout_s,
            is_body=True,
        )

    def _giving(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook or a body as a turn calls it: what it takes after the `*` is given to it."""
        owner = f"{self.cls.__name__}.{name}"
        given = signatures.given_argument(owner, function, self.namespace)
        if given is None:
            return function
        if any(isinstance(mark, BlockingMark) for mark in marks_of(function)):
            raise DefinitionError(
                f"{owner}: @blocking runs it in a thread, and {given[0]} belongs to the event loop: write it as "
                "`async def` without @blocking"
            )
        self.definition.given[name] = given[1]
        return giving(function, *given)

    def _check_return(self, owner: str, function: Callable[..., Any], event_class: EventClass) -> None:
        says = signatures.return_annotation(function, self.namespace)
        reply = self._spec(event_class).reply
        if says is signatures.NOT_SAID or says is Any or not isinstance(says, type) or reply.classes is None:
            return
        if not issubclass(says, reply.classes):
            raise DefinitionError(
                f"{owner}: is annotated to return {says.__name__}, but {event_class.__name__} declares "
                f"{reply.name}: change one of them"
            )

    def _postpone(self, name: str, function: Callable[..., Any], mark: PostponeMark) -> None:
        owner = f"{self.cls.__name__}.{name}"
        for event_class in mark.events or signatures.body_events(owner, function, self.namespace):
            given: Any = event_class
            if given is StateTimeout:
                raise DefinitionError(f"{owner}: a timer's event is never postponed")
            if given is Event or not issubclass(given, Event):
                raise DefinitionError(
                    f"{owner}: @postpone takes event classes of this machine, not {event_class!r}"
                )
            for state in mark.states:
                self._add(self._node(owner, state), event_class, POSTPONE)

    def _refuse(self, name: str, function: Callable[..., Any], mark: RefuseMark) -> None:
        owner = f"{self.cls.__name__}.{name}"
        for event_class in mark.events or signatures.body_events(owner, function, self.namespace):
            if event_class not in self.definition.events:
                raise DefinitionError(
                    f"{owner}: @refuse takes event classes that this machine handles elsewhere; nothing in it takes "
                    f"{event_class.__name__}"
                )
            for state in mark.states:
                node = self._node(owner, state)
                if (id(node), event_class) in self.choices:
                    raise DefinitionError(
                        f"{owner}: in {node.name}, {event_class.__name__} is handled or postponed, and refused too; "
                        "decide for one"
                    )
                node.refused |= {event_class}

    def _connect_all(self) -> None:
        """Without transitions of its own a machine may be asked to go from any state to any other."""
        nodes = self.definition.states.values()
        for source in nodes:
            if not source.final:
                for target in nodes:
                    edge = self._edge("request_transition", TransitionRequested, source, target, None)
                    self._add(source, TransitionRequested, edge)

    def _edge(
        self,
        name: str,
        event_class: EventClass,
        source: StateNode,
        target: StateNode,
        body: Step | None,
        *,
        when: Callable[[Any, Any], bool] | None = None,
        stays: bool = False,
    ) -> Transition:
        guard, guard_name = when, "" if when is None else signatures.guard_name(when)
        if event_class is TransitionRequested:
            guard = _requests(target, when)
        elif event_class is StateTimeout:
            guard = _times_out(name, when)
        edge = Transition(name, source, target, guard, guard_name, self._spec(event_class).reply, stays=stays)
        birth = source is self.definition.root
        before = () if stays or birth else self._steps("before", None, event_class)
        leave = () if stays or birth else self._steps("exit", source, event_class)
        enter = () if stays else self._steps("enter", target, event_class)
        edge.steps = (*before, *leave, *(() if body is None else (body,)), *enter)
        after = () if stays else tuple(self._steps("after", target, event_class))
        edge.afters = tuple(step for step in after if not step.detached)
        edge.detached = tuple(step for step in after if step.detached)
        starts_or_ends = not stays and (target.final or bool(target.timers))
        edge.is_rare = edge.is_birth or bool(edge.detached) or starts_or_ends
        return edge

    def _steps(self, kind: str, node: StateNode | None, event_class: EventClass) -> Iterator[Step]:
        for hook in self.hooks:
            if hook.step.kind == kind and hook.applies_to(None if node is None else node.member):
                if hook.accepts is not None and not issubclass(event_class, hook.accepts):
                    raise DefinitionError(
                        f"{self.cls.__name__}.{hook.step.name}: {event_class.__name__} can lead there too; "
                        "add it to the annotation of the event, or annotate it Event"
                    )
                yield hook.step

    def _spec(self, event_class: EventClass) -> EventSpec:
        events = self.definition.events
        if event_class not in events:
            reply = Reply(
                reply_annotation(event_class, self.namespace), f"the reply of {event_class.__name__}"
            )
            mutable = not shares_nothing(event_class)
            care = mutable or event_class in {TransitionRequested, StateTimeout, Terminated}
            events[event_class] = EventSpec(event_class, event_class.__name__, mutable, reply, care)
        return events[event_class]

    def _node(self, owner: str, state: Enum) -> StateNode:
        # Members of two StrEnums with the same value compare equal: compare the classes.
        node = self.definition.states.get(state) if type(state) is self.definition.state_class else None
        if node is None:
            raise DefinitionError(
                f"{owner}: {state!r} is not a state of the machine; "
                f"give a member of {self.definition.state_class.__name__}"
            )
        return node

    def _add(self, node: StateNode, event_class: EventClass, choice: Choice) -> None:
        self._spec(event_class)
        self.choices.setdefault((id(node), event_class), []).append(choice)

    def _finish(self) -> None:
        definition = self.definition
        for node in (definition.root, *definition.states.values()):
            for (owner, event_class), choices in self.choices.items():
                if owner == id(node):
                    node.choices[event_class] = tuple(choices)
            node.allowed = tuple(cls.__name__ for cls in node.choices if cls is not StateTimeout)
        definition.births = frozenset(cls for cls in definition.root.choices if cls is not Spawn)
        definition.mutable_fields = frozenset(
            name for name, info in self.cls.model_fields.items() if not is_immutable(info.annotation)
        )
        definition.hooks = tuple(self.hooks)
        steps = (*_all_steps(definition), *(hook.step for hook in self.hooks))
        definition.is_plain = not any(step.is_async for step in steps)


def _all_steps(definition: Definition) -> Iterable[Step]:
    for node in (definition.root, *definition.states.values()):
        for choices in node.choices.values():
            for choice in choices:
                if isinstance(choice, Transition):
                    yield from choice.steps


def _requests(target: StateNode, when: Callable[[Any, Any], bool] | None) -> Callable[[Any, Any], bool]:
    """A request for a state takes the edges that lead to it."""

    def leads_there(machine: Any, event: TransitionRequested) -> bool:
        return event.to is target.member and (when is None or when(machine, event))

    leads_there.__dict__["__wrapped__"] = when  # for the checks, which look for guards given twice
    return leads_there


def _times_out(name: str, when: Callable[[Any, Any], bool] | None) -> Callable[[Any, Any], bool]:
    """A timer's event takes the edge of its own name."""

    def is_its_own(machine: Any, event: StateTimeout) -> bool:
        return event.name == name and (when is None or when(machine, event))

    is_its_own.__dict__["__wrapped__"] = when
    return is_its_own


def marked_in(cls: type, name: str) -> bool:
    """Return whether the class or one of its bases has a hook or a transition of this name."""
    return any(bool(marks_of(vars(base).get(name))) for base in cls.__mro__)


def _marked_methods(cls: type[Any]) -> Iterator[tuple[str, Callable[..., Any], list[Mark]]]:
    """Yield the marked methods, base classes first, then in order of definition.

    A method that overrides a marked one without marks of its own keeps those of the base; with marks it replaces them;
    `None` in its place removes it.
    """
    marks: dict[str, list[Mark]] = {}
    bases: list[type[Any]] = [*reversed(cls.__mro__)]
    for base in bases:
        for name, attribute in vars(base).items():
            own = marks_of(attribute)
            if own:
                marks[name] = own
            elif marks_inside(attribute):
                raise DefinitionError(
                    f"{base.__name__}.{name}: a {type(attribute).__name__} around a hook or transition would hide it; "
                    "put the decorators of the machine on top, above a plain method"
                )
            elif attribute is None:
                marks.pop(name, None)
    for name, found in marks.items():
        function = inspect.getattr_static(cls, name)
        yield name, _off_the_loop(f"{cls.__name__}.{name}", function, found), found


def _off_the_loop(owner: str, function: Callable[..., Any], marks: list[Mark]) -> Callable[..., Any]:
    """Return the function as a turn runs it: one that blocks is awaited, while it runs in a thread."""
    if not any(isinstance(mark, BlockingMark) for mark in marks):
        return function
    if all(isinstance(mark, BlockingMark | PostponeMark | RefuseMark) for mark in marks):
        raise DefinitionError(
            f"{owner}: @blocking stands at hooks and at bodies of transitions; a guard only looks at the machine, and "
            "another method blocks whoever calls it"
        )
    if signatures.is_async(function):
        raise DefinitionError(
            f"{owner}: @blocking is for a plain `def`; an `async def` runs on the event loop and must not block it. "
            "Write it as `def`, or await asyncio.to_thread(...) in it"
        )
    return in_thread(function)
