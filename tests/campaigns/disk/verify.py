"""What the package's own verification finds in a file: it must see as much as the oracles, which do not use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.journal.sqlite.file import is_new
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.journal.verify import verify_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from actorfsm.journal.verify import Verdict

__all__ = ["verified"]


class Done:
    """What is there already for whoever awaits it."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self._result


class AtOnce:
    """Makes each call when it is handed in: there need be no loop."""

    def submit(self, work: Callable[[], Any]) -> Any:
        return Done(work())

    def close(self) -> None:
        pass


def verified(path: Path) -> list[str]:
    """Return what verification finds in a journal that nobody uses; nothing if there is none yet."""
    if is_new(path):
        return []
    reading = _verdict(SQLiteJournal(path, read_only=True, executor=AtOnce()))
    try:
        reading.send(None)
    except StopIteration as end:
        return [f"verify: {fault}" for fault in end.value.faults]
    raise AssertionError("it waits for something")


async def _verdict(journal: SQLiteJournal) -> Verdict:
    await journal.open()
    try:
        return await verify_journal(journal)
    finally:
        await journal.close()
