"""Selection: which transition an event takes. Pure, so that it can be tested as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.errors import HookFailed, Veto
from actorfsm.event import StateTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actorfsm.machine.definition import Choice, StateNode

__all__ = ["guards_that_refused", "in_words", "select"]


def select(node: StateNode, event: Any, machine: Any) -> Choice | None:
    """Return what to do with the event in this state: the first choice whose guard holds, or None.

    Args:
        node: The state.
        event: The event, of a class that the machine declares.
        machine: What guards look at.

    Raises:
        HookFailed: A guard raised, or returned something else than True or False.
        Veto: A guard refused the event; `by` is its name.
    """
    for choice in node.choices.get(event.__class__, ()):
        guard = choice.guard
        if guard is None:
            return choice
        try:
            verdict = guard(machine, event)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except Veto as veto:
            veto.by = choice.guard_name
            raise
        except BaseException as error:
            raise HookFailed(f"the guard {choice.guard_name} raised", hook=choice.guard_name) from error
        if verdict is True:
            return choice
        if verdict is not False:
            _refuse_verdict(choice.guard_name, verdict)
    return None


def guards_that_refused(node: StateNode, event: Any) -> tuple[str, ...]:
    """Return the names of the guards that stood in the way, for an event that nothing took."""
    choices = node.choices.get(event.__class__, ())
    if isinstance(event, StateTimeout):  # of the state's timeouts, the one of this name
        choices = tuple(choice for choice in choices if choice.name == event.name)
    return tuple(choice.guard_name for choice in choices if choice.guard_name)


def _refuse_verdict(guard_name: str, verdict: Any) -> None:
    close = getattr(verdict, "close", None)
    if close is not None:
        close()
    raise HookFailed(
        f"the guard {guard_name} returned {type(verdict).__name__}, not True or False", hook=guard_name
    )


def in_words(guards: Sequence[str]) -> str:
    """Return what an error says of the guards that said no: nothing if there are none."""
    if not guards:
        return ""
    return f"; the guard{'s' if len(guards) > 1 else ''} {', '.join(guards)} said no"
