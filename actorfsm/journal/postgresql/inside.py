"""A batch inside a transaction that the caller owns: it is stored when that commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorfsm.errors import Fenced, JournalClosed, NotStored, Unsupported
from actorfsm.journal.postgresql import changes, refusals
from actorfsm.journal.postgresql.driver import psycopg, sql
from actorfsm.journal.postgresql.text import from_column, to_column

if TYPE_CHECKING:
    from actorfsm.errors import JournalError
    from actorfsm.journal.entry import Batch
    from actorfsm.journal.postgresql.changes import Owner
    from actorfsm.journal.postgresql.target import Target

__all__ = ["append_in"]


async def append_in(connection: Any, batch: Batch, owner: Owner | None, target: Target) -> None:
    """Store a batch by somebody else's connection; see `Journal.append_in`."""
    if not isinstance(connection, psycopg.AsyncConnection):
        raise Unsupported(
            f"append_in() takes a psycopg.AsyncConnection, not {type(connection).__name__}: give the driver's own "
            "connection"
        )
    if owner is None:
        raise JournalClosed("the journal is not open")
    is_idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    if is_idle and connection.autocommit:
        raise NotStored("the connection is in no transaction: begin one, async with connection.transaction()")
    schema = sql.Identifier(target.schema)
    try:
        if is_idle:
            await connection.execute(
                "SELECT"
            )  # begins the caller's transaction; a savepoint would be one of its own
        # A savepoint: what is refused leaves the caller's transaction as it was.
        async with connection.transaction():
            before = await _heads(connection, batch, schema)
            planned = changes.plan(batch, dict(before))
            call = sql.SQL("SELECT {}.").format(schema) + sql.SQL(changes.APPEND)
            await connection.execute(call, changes.values_of(owner, [planned], [batch], before))
    except Fenced as error:  # by what the transaction sees, an entry is not the next one
        raise await _overtaken(connection, error) from error
    except psycopg.Error as error:
        used = await _used_by(connection, batch, schema) if refusals.is_used(error) else None
        raise used or refusals.refusal(error, target.shown) from error


async def _overtaken(connection: Any, error: NotStored) -> NotStored:
    """Return why an entry is not the next of its machine: another owner, or the transaction looks at the past."""
    found = await connection.execute("SELECT current_setting('transaction_isolation')")
    row = await found.fetchone()
    if row is None or row[0] in {"read committed", "read uncommitted"}:
        return error
    return NotStored(
        f"the transaction is {row[0]}, and since it began something of the machine was stored: begin it again"
    )


async def _heads(connection: Any, batch: Batch, schema: sql.Identifier) -> dict[str, tuple[int, bytes]]:
    """Return number and checksum of the last entry of the batch's machines, as the transaction sees them."""
    select = sql.SQL("SELECT machine_id, seq, checksum FROM {}.machines WHERE machine_id = ANY (%b::text[])")
    machine_ids = list({to_column(entry.machine_id) for entry in batch.entries})
    found = await connection.execute(select.format(schema), (machine_ids,), binary=True)
    return {from_column(machine_id): (seq, checksum) for machine_id, seq, checksum in await found.fetchall()}


async def _used_by(connection: Any, batch: Batch, schema: sql.Identifier) -> JournalError | None:
    claims = changes.claims_of(batch)
    call = sql.SQL("SELECT {}.").format(schema) + sql.SQL(changes.FIRST_USED)
    found = await connection.execute(call, changes.values_of_claims(claims))
    return changes.used_by(claims, await found.fetchone())
