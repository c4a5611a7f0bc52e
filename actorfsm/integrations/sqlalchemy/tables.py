"""The tables of this package among the user's own, in metadata of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actorfsm.integrations.sqlalchemy.driver import Mapped, orm, sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy import MetaData

__all__ = ["StoredEvent", "include_object", "metadata"]

metadata: Final[MetaData] = sqlalchemy.MetaData()
"""For `metadata.create_all(engine)`, or for the `target_metadata` of Alembic, beside your own."""


class _Base(orm.DeclarativeBase):
    metadata = metadata


class StoredEvent(_Base):
    """An event in the outbox: it goes when the machine has it.

    Attributes:
        id: Its place in the order.
        error: Why it cannot be told, until somebody has mended that and set it to NULL; NULL otherwise.
    """

    __tablename__ = "actorfsm_outbox"
    id: Mapped[int] = orm.mapped_column(
        sqlalchemy.BigInteger().with_variant(sqlalchemy.Integer, "sqlite"), primary_key=True
    )
    machine_id: Mapped[str] = orm.mapped_column(sqlalchemy.String(200))
    machine: Mapped[str] = orm.mapped_column(sqlalchemy.String(200))
    event_id: Mapped[str] = orm.mapped_column(sqlalchemy.String(200))
    event_type: Mapped[str] = orm.mapped_column(sqlalchemy.String(200))
    version: Mapped[int] = orm.mapped_column(sqlalchemy.Integer)
    event: Mapped[str] = orm.mapped_column(sqlalchemy.Text)
    headers: Mapped[str] = orm.mapped_column(sqlalchemy.Text)
    error: Mapped[str | None] = orm.mapped_column(sqlalchemy.Text)


_SCHEMA: Final = "actorfsm"


def include_object(
    object: Any,  # noqa: A002 -- as Alembic calls it
    name: str | None,
    type_: str,
    reflected: bool,  # noqa: FBT001 -- the same
    compare_to: Any,  # noqa: ARG001 -- the same
) -> bool:
    """Tell Alembic to leave alone what is this package's: `context.configure(include_object=include_object)`.

    Without it `alembic revision --autogenerate` drops tables that are in the database and not in your metadata: the
    outbox, where you let `metadata.create_all` make it, and those of a journal in the schema `actorfsm`.
    """
    table = object if type_ == "table" else getattr(object, "table", None)
    if table is None or not reflected:
        return True
    return (
        getattr(table, "schema", None) != _SCHEMA and str(getattr(table, "name", name)) not in metadata.tables
    )
