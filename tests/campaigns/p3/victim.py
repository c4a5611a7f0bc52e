"""The process that is killed: a system with a journal, which answers whoever connects to its socket."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from actorfsm import ActorFSMError, ActorSystem
from actorfsm.journal.sqlite.journal import SQLiteJournal
from tests.campaigns.p3.machines import Desk, Free, Hold, Ledger, Pay, Till

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.campaigns.disk.shim import Control

EVENTS: Any = {"pay": Pay, "hold": Hold, "free": Free}


def connecting(control: Control, reached: Callable[[str], None]) -> Any:
    """Return what makes connections that say when a commit is in flight, and which points they reach.

    Args:
        control: Where `busy` is 1 from the begin of a transaction until its commit has returned, and counted then.
        reached: Is told each point by name.
    """

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> Any:
            if sql.startswith("BEGIN"):
                control.busy = 1
            name = sql.split(maxsplit=1)[0].lower()
            reached(f"before {name}")
            found = super().execute(sql, *values)
            reached(f"after {name}")
            if sql in {"COMMIT", "ROLLBACK"}:
                control.busy = 0
                control.commits += sql == "COMMIT"
            return found

        def executemany(self, sql: str, values: Any) -> Any:
            found = super().executemany(sql, values)
            reached(f"after {' '.join(sql.replace('OR REPLACE ', '').split()[:3]).lower()}")
            return found

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        reached("connect")
        return sqlite3.connect(*arguments, factory=Watched, **options)

    return connect


async def serve(
    journal: Path, listening: socket.socket, control: Control, reached: Callable[[str], None]
) -> None:
    """Run the system until it is killed, or told to stop."""
    end = asyncio.Event()
    store = SQLiteJournal(journal, connect=connecting(control, reached))
    async with ActorSystem(Till, Desk, Ledger, journal=store, trace=None) as system:
        reached("started")
        await system.get_or_spawn(Ledger, "ledger")

        async def answer(asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
            try:
                machine, what, number = asked["machine"], asked["what"], asked["number"]
                await system.get_or_spawn(_class_of(machine), machine)
                event = EVENTS[what](number=number)
                reply: Any = await system.ask(machine, event, event_id=asked["id"])
                said = {"id": asked["id"], "machine": machine, "reply": reply}
            except ActorFSMError as error:
                said = {"id": asked["id"], "machine": asked["machine"], "error": repr(error)}
            reached("before the answer")
            writer.write(json.dumps(said).encode() + b"\n")
            reached("after the answer")

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with asyncio.TaskGroup() as group:
                while line := await reader.readline():
                    asked = json.loads(line)
                    if asked["what"] == "rest":
                        for machine in asked["machines"]:
                            await system.get_or_spawn(_class_of(machine), machine)
                        await _rest(system)
                        writer.write(json.dumps({"id": "rest", "machines": _shown(system)}).encode() + b"\n")
                        await writer.drain()
                        end.set()
                        return
                    group.create_task(answer(asked, writer))

        server = await asyncio.start_unix_server(connected, sock=listening)
        await end.wait()
        server.close()
    reached("closed")


def _class_of(machine_id: str) -> type[Desk | Till]:
    return Desk if machine_id.startswith("desk") else Till


async def _rest(system: ActorSystem[Any]) -> None:
    """Wait until nothing is under way any more, timers included."""
    quiet = 0
    while quiet < 3:
        await asyncio.sleep(0.01)
        stats = system.stats()
        under_way = stats.queued + stats.in_flight + stats.outgoing + stats.postponed + stats.timers
        quiet = 0 if under_way else quiet + 1


def _shown(system: ActorSystem[Any]) -> dict[str, Any]:
    shown = {}
    for machine_id in system.ids(Till) + system.ids(Ledger) + system.ids(Desk):
        snapshot = system.snapshot(machine_id)
        shown[machine_id] = {"state": snapshot.state.name, "data": snapshot.data, "seq": snapshot.seq}
    return shown


async def warm_up(journal: Path) -> None:
    """Use everything once, so that what is forked later has it at hand."""
    for _ in range(2):
        async with ActorSystem(Till, Desk, Ledger, journal=journal, trace=None) as system:
            await system.get_or_spawn(Ledger, "ledger")
            await system.get_or_spawn(Till, "till")
            for kind in (Pay, Hold, Pay, Free):
                system.tell("till", kind(number=1))
            await system.ask("till", Pay(number=2), event_id="two")
            await _rest(system)


def run(journal: Path, listening: socket.socket, control: Control, reached: Callable[[str], None]) -> None:
    """Be the victim, in a process that was just forked; never returns."""
    status = 1
    with suppress(BaseException):
        try:
            asyncio.run(serve(journal, listening, control, reached))
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
    sys.stderr.flush()
    os._exit(status)
