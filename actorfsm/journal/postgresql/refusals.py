"""Refusals: what an error of the server means for what was to be stored, surely nothing of it being so (C25)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actorfsm.errors import Fenced, JournalFull, NotStored
from actorfsm.journal.postgresql.driver import psycopg, said_by

if TYPE_CHECKING:
    from actorfsm.errors import JournalError

__all__ = ["FENCED", "LOCKED", "is_of_one", "is_used", "refusal"]

# The codes that the journal's own functions raise.
LOCKED: Final = "AF005"
USED: Final = "AF003"
FENCED: Final = "AF001"
_MOVED: Final = "AF002"
_OTHER_CONNECTION: Final = "AF004"
_DISK_FULL: Final = "53100"
_UNIQUE: Final = "23505"


def is_of_one(error: psycopg.Error) -> bool:
    """Return whether it is the fault of a batch, so that others in its group may be stored without it."""
    state = error.sqlstate or ""
    return state in {_MOVED, USED} or state.startswith(("22", "23", "54")) or not state


def is_used(error: psycopg.Error) -> bool:
    """Return whether the batch may claim what is used already."""
    return error.sqlstate in {USED, _UNIQUE}


def refusal(error: psycopg.Error | JournalError, shown: str) -> JournalError:
    """Return what to answer."""
    if not isinstance(error, psycopg.Error):
        return error
    state = error.sqlstate
    if state == FENCED:
        answer: NotStored = Fenced(
            "another system has taken the machines over: this one may not write any more"
        )
    elif state == _MOVED:
        answer = Fenced("another system has written to a machine of this batch")
    elif state == _OTHER_CONNECTION:
        answer = NotStored(
            "the journal has a new connection since, or this is another database than its own: begin the transaction "
            "again"
        )
    elif state == _DISK_FULL:
        answer = JournalFull(f"there is no room on the disk of {shown}: nothing was stored")
    else:
        answer = NotStored(f"{shown} did not store it: {said_by(error)}")
    answer.__cause__ = error
    return answer
