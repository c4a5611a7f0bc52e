"""Loading: a machine's image out of its snapshot and the entries after it, each link of the chain looked at (C27)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from actorfsm.errors import JournalCorrupt
from actorfsm.journal.codec import FIRST, checksum_of_image, decode, decode_image
from actorfsm.journal.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from actorfsm.journal.codec import Row
    from actorfsm.journal.entry import Head

__all__ = ["image_of", "page_of"]


R = TypeVar("R")
T = TypeVar("T")


def page_of(rows: Iterable[R], read: Callable[[R], T], place_of: Callable[[R], Any]) -> list[T]:
    """Return a page of a list. It ends before a row that is not what was written.

    Args:
        rows: The rows.
        read: Makes of a row what it shows.
        place_of: Returns the place of a row, behind which one can go on.

    Raises:
        JournalCorrupt: The first row is not what was written; `place` says where it stands.
    """
    page: list[T] = []
    for row in rows:
        try:
            page.append(read(row))
        except JournalCorrupt as error:
            if page:
                break
            error.place = place_of(row)
            raise
    return page


def image_of(
    head: Head, snapshot: tuple[int, str, bytes] | None, rows_from: Callable[[int], Sequence[Row]]
) -> Image:
    """Return all that the entries of a machine have left.

    Args:
        head: Where the machine is.
        snapshot: Number of the entry that it shows, text and checksum; or None.
        rows_from: Returns the rows from a number on.

    Raises:
        JournalCorrupt: What is stored is not what was written.
    """
    if snapshot is not None:
        seq, text, checksum = snapshot
        rows = rows_from(seq)
        if rows and rows[0].seq == seq and checksum_of_image(text, rows[0].checksum) == checksum:
            return _folded(decode_image(head.machine_id, seq, text), rows[0].checksum, rows[1:], head)
    # Without a snapshot that can be believed, the entries are the truth for as long as all of them are there.
    return _folded(Image(machine_id=head.machine_id), FIRST, rows_from(1), head)


def _folded(image: Image, checksum: bytes, rows: Iterable[Row], head: Head) -> Image:
    for row in rows:
        if row.seq != image.seq + 1:
            raise _corrupt(head, image.seq + 1, "it is not there")
        image.apply(decode(row, checksum))
        checksum = row.checksum
    if (image.seq, checksum) != (head.seq, head.checksum):
        raise _corrupt(
            head, max(image.seq, head.seq), f"the machine's head says {head.seq}, its last entry {image.seq}"
        )
    if (image.machine, image.status, image.state) != (head.machine, head.status, head.state):
        raise _corrupt(head, head.seq, "the machine's head does not show it")
    return image


def _corrupt(head: Head, seq: int, why: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"entry {seq} of {head.machine_id} is not what was written: {why}",
        seq=seq,
        machine_id=head.machine_id,
    )
