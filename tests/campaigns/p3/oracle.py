"""The oracle: what must be true of a journal's file after a kill, by the client's notes and nothing of the runtime.

It reads the tables with sqlite3 and computes everything for itself: checksums, folds, what is promised and done. What
it shares with the package is the format of the file alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tests.campaigns.p3.machines import linked

__all__ = ["Notes", "judge", "judge_rest"]

FIRST = bytes(16)


@dataclass
class Notes:
    """What the client has written into its own file.

    Attributes:
        sent: Event ids that were sent.
        answers: By event id: machine, reply, and how long the log of the disk was when the answer came.
        errors: Answers that were none.
        rest: The machines as the last system showed them.
    """

    sent: set[str] = field(default_factory=set)
    answers: dict[str, tuple[str, Any, int]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    rest: dict[str, Any] | None = None

    def read(self, path: Path, after: int = 0) -> int:
        """Take in what was written behind a place in the file, and return the place to go on from."""
        raw = path.read_bytes()[after:] if path.exists() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        for line in whole.splitlines():
            note = json.loads(line)
            match note["kind"]:
                case "sent":
                    self.sent.add(note["id"])
                case "answer":
                    known = self.answers.setdefault(note["id"], (note["machine"], note["reply"], note["log"]))
                    if known[1] != note["reply"]:
                        self.errors.append(f"{note['id']} was answered {known[1]}, then {note['reply']}")
                case "error":
                    self.errors.append(f"{note['id']} was answered {note['error']}")
                case "rest":
                    self.rest = note["machines"]
        return after + len(whole)


class _Machine:
    """What a machine must be, by the events that its entries say were committed."""

    def __init__(self, machine_id: str) -> None:
        self.id = machine_id
        self.state: tuple[str, ...] = ()
        self.data: dict[str, Any] = {}
        if machine_id.startswith("till"):
            self.data = dict.fromkeys(("paid", "counted", "rung", "thanked"), 0) | {"chain": ""}
        elif machine_id == "ledger":
            self.data = {"booked": 0, "chain": ""}
        else:
            self.data = {"paid": 0}
        self.own: list[int] = []
        """Numbers of own events that must come next."""

    def commit(self, event: str, given: dict[str, Any]) -> Any:
        """Follow an event; return the reply that it must have."""
        data = self.data
        match event:
            case "Spawn":
                return None
            case "Book":
                data["booked"] += 1
                data["chain"] = linked(data["chain"], given["till"], given["number"])
                return None
            case "Pay" if self.id.startswith("desk"):
                data["paid"] += given["number"]
                return data["paid"]
        field_of = {"Pay": "paid", "Counted": "counted", "Ring": "rung", "Thanks": "thanked"}
        if event in field_of:
            data[field_of[event]] += 1
        name = event.lower()
        data["chain"] = linked(data["chain"], name, given["number"])
        if event == "Pay":
            self.own.append(given["number"])
            return data["paid"]
        return given["number"] if event in {"Hold", "Free"} else None


def judge(journal: Path, notes: Notes, *, log_size: int | None = None) -> list[str]:
    """Return which promises are broken.

    Args:
        journal: The file, which nobody uses.
        notes: What the client was answered.
        log_size: Only what was answered before the disk's log was longer than that.
    """
    broken = list(notes.errors)
    answers = {
        event_id: answer
        for event_id, answer in notes.answers.items()
        if log_size is None or answer[2] <= log_size
    }
    if not journal.exists() or (journal.stat().st_size == 0 and not Path(f"{journal}-wal").exists()):
        return [*broken, *(f"I1: {event_id} was answered, and there is no journal" for event_id in answers)]
    try:
        with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                return [
                    *broken,
                    *(f"I1: {event_id} was answered, the journal is empty" for event_id in answers),
                ]
            _File(connection, broken).judge(answers, notes.sent)
    except sqlite3.DatabaseError as error:
        broken.append(f"the file cannot be read: {error}")
    return broken


class _File:
    """All that is in a journal."""

    def __init__(self, connection: sqlite3.Connection, broken: list[str]) -> None:
        self.broken = broken
        self.heads = {row[0]: row[1:] for row in connection.execute("SELECT * FROM machines")}
        self.rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for row in connection.execute("SELECT * FROM entries ORDER BY machine_id, seq"):
            self.rows[row[0]].append(row)
        self.timers = {(row[0], row[1]) for row in connection.execute("SELECT machine_id, name FROM timers")}
        self.pending = {
            key: (place, machine_id)
            for place, key, machine_id in connection.execute("SELECT place, key, machine_id FROM pending")
        }
        self.dead = connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
        (self.sound,) = connection.execute("PRAGMA quick_check").fetchone()
        self.settled: dict[str, tuple[str, int, str]] = {}
        self.promised: dict[str, tuple[str, str, str]] = {}
        self.sequences: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.concluded: dict[tuple[str, str], Any] = {}

    def judge(self, answers: dict[str, tuple[str, Any, int]], sent: set[str]) -> None:
        """Look at everything."""
        broken = self.broken
        if self.sound != "ok":
            broken.append(f"SQLite says: {self.sound}")
        for machine_id, rows in self.rows.items():
            self._machine(machine_id, rows)
        for machine_id in self.heads.keys() - self.rows.keys():
            broken.append(f"I3: {machine_id} has a head and no entries")
        for event_id, (machine_id, reply, _) in answers.items():
            if (machine_id, event_id) not in self.concluded:
                broken.append(f"I1: {event_id} was answered {reply}, and is not in the journal")
            elif self.concluded[machine_id, event_id] != reply:
                recorded = self.concluded[machine_id, event_id]
                broken.append(f"I1: {event_id} was answered {reply}, the journal says {recorded}")
        for machine_id, event_id in self.concluded:
            if "/" in event_id and event_id not in sent:
                broken.append(f"I1: {event_id} is in the journal, and nobody sent it to {machine_id}")
        self._promises()
        if self.dead:
            broken.append(f"I7: {self.dead} dead letters of machines that are alive")

    def _machine(self, machine_id: str, rows: list[tuple[Any, ...]]) -> None:
        broken, model, checksum = self.broken, _Machine(machine_id), FIRST
        applied: Counter[str] = Counter()
        timers: set[str] = set()
        for number, (_, seq, concluded_id, body, _, _, stored) in enumerate(rows, 1):
            where = f"entry {seq} of {machine_id}"
            if seq != number:
                broken.append(f"I3: {where} comes where {number} must")
            checksum = blake2b(
                checksum + blake2b(body.encode(), digest_size=16).digest(), digest_size=16
            ).digest()
            if checksum != stored:
                broken.append(f"I6: the checksum of {where} does not fit")
            entry = json.loads(body)
            source, target = tuple(entry.get("source", ())), tuple(entry.get("target", ()))
            if source != model.state:
                broken.append(f"I4: {where} begins in {source}, the one before ended in {model.state}")
            model.state = target
            event, event_id, given = _message(entry)
            timers -= set(entry.get("timers_ended", ()))
            ran = set(timers)
            timers |= {timer["name"] for timer in entry.get("timers_set", ())}
            self._follow(where, machine_id, seq, entry)
            if entry["kind"] == "committed":
                applied[event_id] += 1
                if applied[event_id] > 1:
                    broken.append(f"I2: {where} applies {event_id} again")
                self._committed(where, model, entry, event, given, ran)
                if concluded_id is not None:
                    answer = entry["answer"].get("reply")
                    self.concluded[machine_id, concluded_id] = (
                        None if answer is None else json.loads(answer[2])
                    )
            elif entry["kind"] != "postponed":
                broken.append(f"{where} is {entry['kind']}: nobody gave cause for that")
        _, _, state, last, head_checksum = self.heads.get(machine_id, ("", "", "", 0, b""))
        if (last, head_checksum, tuple(state.split("\x1f")[1::2])) != (len(rows), checksum, model.state):
            broken.append(f"I5: the head of {machine_id} does not show its last entry")
        found = {name for who, name in self.timers if who == machine_id}
        if found != timers:
            broken.append(f"I7: {machine_id} has the timers {found}, its entries have left {timers}")
        counts = model.data
        if machine_id.startswith("till") and counts["rung"] + len(timers) != counts["paid"]:
            broken.append(
                f"I7: {machine_id} has rung {counts['rung']} times, {len(timers)} timers run, {counts}"
            )

    def _follow(self, where: str, machine_id: str, seq: int, entry: dict[str, Any]) -> None:
        """Note what an entry promises and what it says is done."""
        for key in entry.get("settles", ()):
            if key in self.settled:
                self.broken.append(f"I7: {where} settles {key}, as another one did")
            self.settled[key] = (machine_id, seq, entry["kind"])
        for promise in entry.get("promises", ()):
            name = promise["message"]["event"][0]
            self.promised[promise["key"]] = (machine_id, promise["machine_id"], name)
            if promise["kind"] == "event":
                self.sequences[machine_id, promise["machine_id"]].append(promise["key"])

    def _committed(
        self,
        where: str,
        model: _Machine,
        entry: dict[str, Any],
        event: str,
        given: dict[str, Any],
        ran: set[str],
    ) -> None:
        if model.own and (event, given.get("number")) != ("Counted", model.own.pop(0)):
            self.broken.append(f"I7: {where} commits {event} before the event that was raised")
        reply = model.commit(event, given)
        answer = entry.get("answer")
        if answer is not None and event != "Spawn":
            recorded = None if answer.get("reply") is None else json.loads(answer["reply"][2])
            if recorded != reply:
                self.broken.append(f"I5: {where} replies {recorded} where {reply} is due")
        stored = entry.get("data")
        if stored is not None and json.loads(stored[2]) != model.data:
            self.broken.append(f"I5: {where} has {stored[2]}, its events make {model.data}")
        if event == "Pay" and model.id.startswith("till"):
            kinds = sorted(promise["message"]["event"][0] for promise in entry.get("promises", ()))
            # An entry that comes with a snapshot names the timers that ran before, too.
            rings = [name for timer in entry.get("timers_set", ()) if (name := timer["name"]) not in ran]
            if kinds != ["Book", "Counted"] or rings != [f"ring-{given['number']}"]:
                self.broken.append(f"I7: {where} promises {kinds} and starts {rings}")
        if event == "Book":
            kinds = [promise["message"]["event"][0] for promise in entry.get("promises", ())]
            if kinds != ["Thanks"]:
                self.broken.append(f"I7: {where} promises {kinds}")

    def _promises(self) -> None:
        """Whatever was promised is still to be done, or was done once; per pair of machines in order."""
        broken = self.broken
        for key, (sender, receiver, name) in self.promised.items():
            if (key in self.pending) == (key in self.settled):
                both = "done and still to be done" if key in self.pending else "lost"
                broken.append(f"I7: {name} of {sender} for {receiver} ({key}) is {both}")
            elif key in self.settled and self.settled[key][0] != receiver:
                broken.append(f"I7: {name} for {receiver} was done by {self.settled[key][0]}")
        for key in (self.pending.keys() | self.settled.keys()) - self.promised.keys():
            if "/begun/" in key:  # that an event of an earlier life was begun: no entry promises it
                if key in self.pending and key in self.settled:
                    broken.append(f"I7: {key} is settled and still pending")
                continue
            broken.append(f"I7: nobody promised {key}")
        for (sender, receiver), keys in self.sequences.items():
            done = [self.settled[key][1] for key in keys if key in self.settled]
            places = [self.pending[key][0] for key in keys if key in self.pending]
            waits = [key in self.pending for key in keys]
            if done != sorted(done) or places != sorted(places) or waits != sorted(waits):
                broken.append(
                    f"I7: messages of {sender} for {receiver} changed places: {done}, then {places}"
                )


def _message(entry: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    message = entry["message"]
    return message["event"][0], message["event_id"], json.loads(message["event"][2] or "{}")


def judge_rest(journal: Path, notes: Notes) -> list[str]:
    """Return which promises are broken of a journal whose last system came to rest and was closed."""
    broken = judge(journal, notes)
    if notes.rest is None:
        return [*broken, "the last system did not come to rest"]
    with closing(sqlite3.connect(journal)) as connection:
        for table in ("pending", "timers"):
            (left,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 -- two names
            if left:
                broken.append(f"I7: {left} {table} are left at rest")
        for machine_id, body in connection.execute(
            "SELECT machine_id, body FROM entries AS e WHERE seq = (SELECT max(seq) FROM entries AS f WHERE "
            "f.machine_id = e.machine_id AND json_extract(f.body, '$.data') IS NOT NULL)"
        ):
            entry = json.loads(body)
            shown = notes.rest.get(machine_id)
            if shown is None or shown["data"] != json.loads(entry["data"][2]):
                broken.append(f"I5: {machine_id} shows {shown}, its entries have left {entry['data'][2]}")
    if missing := notes.sent - notes.answers.keys():
        broken.append(f"I8: {sorted(missing)} were never answered")
    return broken
