"""Every word of the journal once, with every field set: what `words-N.jsonl` holds as text.

Add to them when a word gets a new field, and make a new golden file: `python -m tests.journal.golden.make`.
"""

from __future__ import annotations

import json
from typing import Any

from actorfsm.journal import codec
from actorfsm.journal.entry import (
    Answer,
    Batch,
    DeadMessage,
    Entry,
    Failure,
    Message,
    Payload,
    Pending,
    StoredTimer,
)
from actorfsm.journal.image import Image

__all__ = ["DEAD", "ENTRY", "IMAGE", "PENDING", "TIMER", "WORDS", "lines", "read"]

MESSAGE = Message(
    event=Payload("Pay", 2, '{"cents":500}'),
    event_id="pay-1",
    causation_id="e1",
    correlation_id="c1",
    headers=(("tenant", "ä"), ("trace", "t")),
    sender="other",
    reply_to="ledger",
    attempt=3,
    has_own_id=True,
)
TIMER = StoredTimer(
    machine_id="o", name="late", due_us=1_700_000_000_000_001, scope="STATE", message=MESSAGE, failures=2
)
PENDING = Pending(key="o/3/0", kind="own", machine_id="o", message=MESSAGE, note="1")
ENTRY = Entry(
    machine_id="o",
    machine="Order",
    seq=1,
    kind="committed",
    at_us=1_700_000_000_000_000,
    incarnation=4,
    commits=7,
    status="finished",
    definition="0123456789abcdef",
    message=MESSAGE,
    source=("OPEN",),
    target=("PAID",),
    data=Payload("Order", 3, '{"cents":500}'),
    answer=Answer(
        kind="committed",
        old=("OPEN",),
        new=("PAID",),
        reply=Payload("Receipt", 2, '{"number":"R-1"}'),
        reason="because",
        error=Failure("ValueError", "no", "charge"),
        commits=7,
    ),
    timers_set=(TIMER,),
    timers_ended=("early",),
    promises=(PENDING,),
    settles=("o/2/0",),
    watches=("friend",),
    unwatches=("foe",),
)
IMAGE = Image(
    machine_id="o",
    machine="Order",
    seq=1,
    commits=7,
    incarnation=4,
    status="quarantined",
    definition="0123456789abcdef",
    state=("PAID",),
    data=Payload("Order", 3, '{"cents":500}'),
    timers={"late": TIMER},
    postponed=[MESSAGE],
    watches=["friend"],
)
DEAD = DeadMessage(
    machine_id="nobody", message=MESSAGE, reason="no such machine", at_us=1_700_000_000_000_000, place=1
)
WORDS = (ENTRY, IMAGE, TIMER, PENDING, DEAD)


def lines() -> list[str]:
    """Return the words as today's code writes them, a line for each."""
    row = codec.plan(Batch(entries=(ENTRY,)), lambda _machine_id: (0, codec.FIRST)).rows[0]
    cut = codec.trimmed(row)
    said: list[dict[str, Any]] = [
        {"word": "entry", "text": row.body, "checksum": row.checksum.hex(), "concluded_id": row.concluded_id},
        {"word": "trimmed", "text": cut.answer, "trimmed": (cut.trimmed or b"").hex()},
        *(
            {"word": word, "text": text, "checksum": checksum.hex()}
            for word, (text, checksum) in (
                ("image", codec.encode_image(IMAGE, row.checksum)),
                ("timer", codec.encode_timer(TIMER)),
                ("pending", codec.encode_pending(PENDING)),
                ("dead", codec.encode_dead(DEAD)),
            )
        ),
    ]
    return [json.dumps(line, ensure_ascii=False) for line in said]


def read(golden: list[str]) -> list[Any]:
    """Return the words that are in the lines of a golden file: the entry, what is left when it is trimmed, and others.

    Raises:
        JournalCorrupt: Today's code cannot read one.
    """
    entry, cut, image, timer, pending, dead = [json.loads(line) for line in golden]
    row = codec.Row(
        "o", 1, entry["concluded_id"], entry["text"], None, None, bytes.fromhex(entry["checksum"])
    )
    left = row._replace(body=None, answer=cut["text"], trimmed=bytes.fromhex(cut["trimmed"]))
    return [
        codec.decode(row, codec.FIRST),
        codec.decode_recorded(left, codec.FIRST),
        codec.decode_image("o", 1, image["text"]),
        codec.decode_timer("o", timer["text"], bytes.fromhex(timer["checksum"])),
        codec.decode_pending("o", pending["text"], bytes.fromhex(pending["checksum"])),
        codec.decode_dead(
            1, (DEAD.machine_id, DEAD.reason, DEAD.at_us, dead["text"], bytes.fromhex(dead["checksum"]))
        ),
    ]
