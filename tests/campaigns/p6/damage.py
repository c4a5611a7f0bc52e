"""What can befall a file: bytes flip, pages change places or are lost; rows are changed, swapped, copied, deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

__all__ = ["KINDS", "Damage", "damage"]

PAGE: Final = 4096
KEYS: Final = {
    "entries": ("machine_id", "seq"),
    "machines": ("machine_id",),
    "snapshots": ("machine_id",),
    "timers": ("machine_id", "name"),
    "pending": ("place",),
    "dead_letters": ("place",),
}
COLUMNS: Final = {
    "entries": ("machine_id", "seq", "concluded_id", "body", "answer", "trimmed", "checksum"),
    "machines": ("machine_id", "machine", "status", "state", "seq", "checksum"),
    "snapshots": ("machine_id", "seq", "image", "checksum"),
    "timers": ("machine_id", "name", "due_us", "body", "checksum"),
    "pending": ("key", "machine_id", "event_id", "body", "checksum"),
    "dead_letters": ("machine_id", "reason", "at_us", "body", "checksum"),
}
KINDS: Final = {
    "a value": 40,
    "a byte": 25,
    "a row is gone": 10,
    "two rows change places": 6,
    "a row of another machine": 6,
    "a page is empty": 4,
    "two pages change places": 4,
    "a page is there twice": 3,
    "the end is missing": 4,
}
"""Each with how often it is drawn."""


@dataclass
class Damage:
    """What was done.

    Attributes:
        what: In words.
        machines: Only these may be refused; None if it could be any of them, or all.
        table: Whose rows were changed, if they were.
    """

    what: str
    machines: set[str] | None = None
    table: str = ""
    of_trimmed: bool = False
    """Whether it is an entry that was trimmed, with nothing left of it but the answer to its event id."""


def damage(path: Path, random: Random) -> Damage:
    """Damage a file in one way."""
    while True:
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        before = path.read_bytes()
        done: Damage | None = None
        with suppress(sqlite3.IntegrityError):
            done = _of_rows(path, kind, random) if kind in _ROWS else _of_bytes(path, kind, random)
        if done is not None and path.read_bytes() != before:
            return done


_ROWS: Final = {"a value", "a row is gone", "two rows change places", "a row of another machine"}


def _of_rows(path: Path, kind: str, random: Random) -> Damage | None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = delete").fetchall()
        table = random.choice(list(KEYS)) if random.random() < 0.4 else "entries"
        key = " AND ".join(f"{column} = ?" for column in KEYS[table])
        rows = connection.execute(f"SELECT {', '.join(KEYS[table])}, machine_id FROM {table}").fetchall()
        if len(rows) < 2:
            return None
        (*one, of_one), (*other, of_other) = random.sample(rows, 2)
        machines = {of_one}
        of_trimmed = False
        if table == "entries":
            select = "SELECT body IS NULL FROM entries WHERE machine_id = ? AND seq = ?"
            of_trimmed = any(connection.execute(select, row).fetchone()[0] for row in (one, other))
        what = f"{kind}: {table} {one}"
        if kind == "a row is gone":
            connection.execute(f"DELETE FROM {table} WHERE {key}", one)
        elif kind == "a value":
            column = random.choice(COLUMNS[table])
            select = f"SELECT {column} FROM {table} WHERE {key}"
            (value,) = connection.execute(select, one).fetchone()
            changed = _changed(value, random)
            if changed == value:
                return None
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key}", (changed, *one))
            what += f" {column} {value!r:.60} -> {changed!r:.60}"
            if column == "machine_id":
                machines.add(str(changed))
        else:
            column = random.choice([name for name in ("body", "image", "checksum") if name in COLUMNS[table]])
            machines.add(of_other)
            what += f" and {other} {column}"
            select = f"SELECT {column} FROM {table} WHERE {key}"
            (first,), (second,) = (connection.execute(select, row).fetchone() for row in (one, other))
            update = f"UPDATE {table} SET {column} = ? WHERE {key}"
            connection.execute(update, (second, *one))
            if kind == "two rows change places":
                connection.execute(update, (first, *other))
        return Damage(what, machines, table, of_trimmed)


def _changed(value: Any, random: Random) -> Any:
    """Return a value in which one bit is another."""
    if value is None:
        return random.choice([0, "", b"x"])
    if isinstance(value, int):
        return value ^ (1 << random.randrange(12))
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    if not raw:
        return b"x" if isinstance(value, bytes) else "x"
    raw[random.randrange(len(raw))] ^= 1 << random.randrange(7)
    return raw.decode() if isinstance(value, str) else bytes(raw)


def _of_bytes(path: Path, kind: str, random: Random) -> Damage:
    raw = bytearray(path.read_bytes())
    pages = len(raw) // PAGE
    one, other = random.sample(range(pages), 2)
    first, second = slice(one * PAGE, (one + 1) * PAGE), slice(other * PAGE, (other + 1) * PAGE)
    what = f"{kind}: page {one + 1}"
    if kind == "a byte":
        at = random.randrange(len(raw))
        raw[at] ^= 1 << random.randrange(8)
        what = f"{kind}: {at} of page {at // PAGE + 1}"
    elif kind == "a page is empty":
        raw[first] = bytes(PAGE)
    elif kind == "two pages change places":
        raw[first], raw[second] = raw[second], raw[first]
        what += f" and {other + 1}"
    elif kind == "a page is there twice":
        raw[first] = raw[second]
        what += f" as page {other + 1}"
    else:
        del raw[random.choice([max(1, one) * PAGE, random.randrange(1, len(raw))]) :]
        what = f"{kind}: {len(raw)} bytes are left"
    path.write_bytes(raw)
    return Damage(what)
