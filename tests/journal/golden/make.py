"""Makes golden journals: `python -m tests.journal.golden.make`. One that is there is never made anew.

`words-N.jsonl` holds every word of the journal as text, `sqlite-F.db` a journal of format F that a shop has written.
Old ones stay for ever: they are what users have on their disks. When a test says that the newest one is not what
today's code writes, and that is meant, raise the number here and run this.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from actorfsm.journal.sqlite.file import FORMAT
from actorfsm.journal.sqlite.journal import SQLiteJournal
from actorfsm.testing import SimulatedSystem, simulate
from tests.contract import shop_v1
from tests.journal.golden.words import lines

__all__ = ["FOLDER", "WORDS_NUMBER", "a_shop"]

FOLDER = Path(__file__).parent
WORDS_NUMBER = 1
"""That of the newest file of words."""


async def a_shop(name: Path) -> None:
    """Store machines with all that can be stored of them, then close the journal."""
    async with SimulatedSystem(shop_v1.Order, shop_v1.Parcel, journal=name, check=False) as system:
        for machine_id in ("paid", "trimmed", "done"):
            await (await system.spawn(shop_v1.Order, machine_id)).ask(shop_v1.Pay(amount=5), event_id="pay")
        await system.ask("done", shop_v1.Ship())
        await (await system.spawn(shop_v1.Order, "reminded")).ask(shop_v1.Remind(after=100))
        waiting = await system.spawn(shop_v1.Order, "waiting", data={"notes": ("zero",)})
        for text in ("one", "two"):
            await waiting.tell(shop_v1.Note(text=text), headers={"tenant": "ä"}).accepted()
        await system.spawn(shop_v1.Parcel, "parcel")
        await system.spawn(shop_v1.Order, "stopped")
        await system.stop("stopped")
        sender = await system.spawn(shop_v1.Order, "sender")
        await sender.ask(shop_v1.Send(to="nobody"))
        await system.clock.advance(1)
        await system.spawn(shop_v1.Order, "held")
        system.suspend("held")
        await sender.ask(shop_v1.Send(to="held"))
    journal = SQLiteJournal(name)
    await journal.open()
    await journal.snapshot("trimmed", keep=0)
    await journal.close()


def main() -> None:
    """Make what is not there."""
    words, shop = FOLDER / f"words-{WORDS_NUMBER}.jsonl", FOLDER / f"sqlite-{FORMAT}.db"
    if not words.exists():
        words.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
    if not shop.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "shop.db"
            simulate(lambda: a_shop(made), seed=0)
            shutil.copyfile(made, shop)


if __name__ == "__main__":
    main()
