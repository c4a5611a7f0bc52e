"""The process that is not killed: it asks, and writes into a file of its own what it was answered.

A question that was not answered when the connection broke is asked again with the same event id, in the same order.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["run"]

TILLS = 4
DESKS = 2


def questions(machine: str, random: Random) -> Iterator[list[dict[str, Any]]]:
    """Yield what a machine is asked, in steps: the questions of one step are asked without waiting in between."""
    number = 0

    def ask(what: str) -> dict[str, Any]:
        return {"machine": machine, "what": what, "number": number, "id": f"{machine}/{what}-{number}"}

    while True:
        number += 1
        if machine.startswith("desk") or random.random() < 0.7:
            yield [ask("pay")]
        else:
            yield [ask("hold")]
            yield [ask("pay"), ask("free")]  # the payment is postponed


class Client:
    """Asks all machines at once, each in its own order."""

    def __init__(self, folder: Path, seed: int, log: Path | None) -> None:
        self.folder = folder
        self.log = log
        self.notes = os.open(folder / "client.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        machines = [f"till-{n}" for n in range(TILLS)] + [f"desk-{n}" for n in range(DESKS)]
        self.steps = {name: questions(name, Random(f"{seed}/{name}")) for name in machines}
        self.open: dict[str, dict[str, dict[str, Any]]] = {}
        for machine in machines:
            self.go_on(machine)

    def note(self, kind: str, **facts: Any) -> None:
        """Write a line into the client's own file."""
        os.write(self.notes, json.dumps({"kind": kind, **facts}).encode() + b"\n")

    def go_on(self, machine: str) -> list[dict[str, Any]]:
        """Begin the next step of a machine."""
        step = next(self.steps[machine])
        self.open[machine] = {asked["id"]: asked for asked in step}
        for asked in step:
            self.note("sent", **asked)
        return step

    def run(self) -> None:
        """Ask until the folder says that it is enough, and all is answered."""
        while not self.talk():
            pass

    def talk(self) -> bool:
        """Ask over one connection; return whether that was the last one."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.folder / "socket"))
                self.send(connection, [asked for step in self.open.values() for asked in step.values()])
                for line in connection.makefile("rb"):
                    if not line.endswith(b"\n"):
                        break
                    if self.heard(connection, json.loads(line)):
                        return True
        except (ConnectionError, BrokenPipeError):
            pass
        return False

    @staticmethod
    def send(connection: socket.socket, asked: list[dict[str, Any]]) -> None:
        """Ask, in one write."""
        connection.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in asked))

    def heard(self, connection: socket.socket, said: dict[str, Any]) -> bool:
        """Note an answer and ask on; return whether the system is at rest."""
        if said["id"] == "rest":
            self.note("rest", machines=said["machines"])
            return True
        machine = said["machine"]
        if "error" in said:
            self.note("error", **said)
        else:
            # Whatever is in the log now was done before the answer came.
            size = self.log.stat().st_size if self.log is not None and self.log.exists() else 0
            self.note("answer", **said, log=size)
        self.open[machine].pop(said["id"])
        last = (self.folder / "rest").exists()
        if not self.open[machine] and not last:
            self.send(connection, self.go_on(machine))
        if last and not any(self.open.values()):
            # Some may have had their last answer from a system that is dead: they are to be shown, too.
            connection.sendall(json.dumps({"what": "rest", "machines": list(self.open)}).encode() + b"\n")
        return False


def run(folder: Path, seed: int, log: Path | None) -> None:
    """Be the client, in a process that was just forked; never returns."""
    status = 1
    try:
        Client(folder, seed, log).run()
        status = 0
    finally:
        os._exit(status)
