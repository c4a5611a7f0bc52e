"""The state of a machine in a column of the user's own row: the row is the truth, and its version decides a race.

An event is handled inside the caller's session and transaction. The second of two writers finds another
version than it read, and is told so. What comes after the commit waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from weakref import WeakKeyDictionary

from actorfsm.clock import SystemClock
from actorfsm.errors import DefinitionError, Discarded, InvalidData, Unsupported
from actorfsm.integrations.row_turn import RowKind, RowTurn, at_once
from actorfsm.integrations.sqlalchemy.after_commit import after_commit
from actorfsm.integrations.sqlalchemy.driver import Mapped, exc, is_lost_race, orm, sqlalchemy
from actorfsm.sinks.structlog_sink import StructlogSink

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from enum import Enum

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import MappedColumn, Mapper, Session

    from actorfsm.clock import Clock
    from actorfsm.event import Event
    from actorfsm.machine.machine import Machine
    from actorfsm.trace import Sink

__all__ = ["Rows", "Versioned", "state_column"]

ReplyT = TypeVar("ReplyT")
StateT = TypeVar("StateT", bound="Enum")

_MACHINE: Final = "actorfsm_machine"
_AGAIN: Final = "read it again (session.refresh), and decide anew"


def state_column(machine_class: type[Machine[StateT, Any]], /, **options: Any) -> MappedColumn[StateT]:
    """Return the column that holds the state of a machine of this class.

    Write `state: Mapped[OrderState] = state_column(Order)`. What is stored is the name of the state, as text. A new row
    is in the machine's initial state, unless it is given another.

    Args:
        machine_class: The class of the machine.
        options: As for `mapped_column`, such as `index=True` or `name="status"`.

    Raises:
        DefinitionError: The machine cannot live in a row: it has timeouts, postpones, or has durable hooks.
    """
    kind = RowKind(machine_class)
    states: Any = kind.definition.state_class
    if kind.definition.initial is not None:
        options.setdefault("default", kind.definition.initial.member)
    options.setdefault("nullable", False)
    info = {**options.pop("info", {}), _MACHINE: kind}
    # Text and no type of the database's own, so that a new state is no migration.
    column_type = sqlalchemy.Enum(states, native_enum=False, create_constraint=False, length=64)
    return orm.mapped_column(column_type, info=info, **options)


class Versioned:
    """A mixin for rows with a state column: the version by which a lost race is found.

    SQLAlchemy counts it up whenever it writes the row, and so does a transition.
    """

    version: Mapped[int] = orm.mapped_column(sqlalchemy.Integer, nullable=False)
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class Rows:
    """Handles events of machines that live in rows. One object serves the whole program.

    Args:
        services: What hooks find as `self.services`.
        clock: What `self.now()` says.
        trace: Where the records go: a line of structured log for each event, by default.
    """

    def __init__(
        self, *, services: Any = None, clock: Clock | None = None, trace: Iterable[Sink] | None = None
    ) -> None:
        self._services = services
        self._clock = clock or SystemClock()
        self._sinks: tuple[Sink, ...] = (StructlogSink(),) if trace is None else tuple(trace)
        self._columns: WeakKeyDictionary[Mapper[Any], _Column] = WeakKeyDictionary()

    async def ask(
        self,
        session: AsyncSession,
        row: object,
        event: Event[ReplyT, Any],
        *,
        event_id: str | None = None,
    ) -> ReplyT:
        """Let a row's machine handle an event, inside the session's transaction.

        The row is written at once, and is there for others when the caller commits. After-hooks run after that commit,
        before `commit()` returns. When the transaction is rolled back, nothing has happened.

        Args:
            session: The session that the row belongs to.
            row: The row, of a class with a `state_column`.
            event: The event.
            event_id: The caller's own id, of which `self.idempotency_key` is made. Give the same when you try again.

        Returns:
            What the transition's body returned.

        Raises:
            ConcurrentTransition: Somebody else has written the row since it was read. Read it again.
            Unhandled, Vetoed, HookFailed, InvalidEvent: As an actor's ask. The row is as it was; what hooks have
                written to other rows goes when the caller rolls back, the transaction or a savepoint.
            InvalidData: The row does not hold what the machine's fields must be.
            DefinitionError: The class of the row has no state column, no version, or lacks a field of the machine.
            Unsupported: The row is not in the session.
        """
        turn = await session.run_sync(self._begin, row, event, event_id, session)
        reply: ReplyT = await turn.decide()
        await session.run_sync(self._write, row, turn)
        return reply

    def ask_sync(
        self, session: Session, row: object, event: Event[ReplyT, Any], *, event_id: str | None = None
    ) -> ReplyT:
        """Do the same in a session that is not async; hooks are plain functions then.

        Raises:
            Unsupported: A hook that would run is `async def`; none has run. Or the row is not in the session.
        """
        turn = self._begin(session, row, event, event_id, session)
        reply: ReplyT = at_once(turn.decide())
        self._write(session, row, turn)
        return reply

    def _begin(
        self,
        session: Session,
        row: object,
        event: Event[Any, Any],
        event_id: str | None,
        of_caller: AsyncSession | Session,
    ) -> RowTurn:
        session.flush()  # what the caller changed counts, and a new row has its key
        column = self._column_of(row)
        if row not in session:
            raise Unsupported(
                f"this row of {type(row).__name__} is not in the session: it was not added, was deleted, or was read "
                "in another one; read it in this session, or session.add(row)"
            )
        state = getattr(row, column.state)
        if state is None:
            raise InvalidData(f"{_name_of(row)} has no state")
        return RowTurn(
            column.kind,
            _name_of(row),
            state,
            {name: getattr(row, name) for name in column.kind.fields},
            event,
            seq=getattr(row, column.version) + 1,
            services=self._services,
            clock=self._clock,
            sinks=self._sinks,
            event_id=event_id,
            in_loop=of_caller is not session,
            given=of_caller,
        )

    def _write(self, session: Session, row: object, turn: RowTurn) -> None:
        """Write what was decided, if the row is still what was read; what follows waits for the commit."""
        column = self._column_of(row)
        values = {**turn.changed, column.state: turn.new, column.version: turn.seq}
        mapper = sqlalchemy.inspect(row).mapper
        condition = [key == value for key, value in zip(mapper.primary_key, _key_of(row), strict=True)]
        condition.append(getattr(mapper.class_, column.version) == turn.seq - 1)
        condition.append(getattr(mapper.class_, column.state) == turn.old)  # for who counts no version up
        statement = sqlalchemy.update(mapper.class_).where(*condition).values(values)
        try:
            with session.no_autoflush:
                done: Any = session.execute(statement, execution_options={"synchronize_session": False})
        except Exception as error:
            if isinstance(error, exc.DBAPIError) and is_lost_race(error):
                raise turn.lost(_AGAIN) from error
            turn.undone(error, type(error).__name__)  # its own words hold values
            raise
        except BaseException:
            turn.undone(Discarded("it was interrupted while it was written", machine_id=turn.machine_id))
            raise
        if done.rowcount != 1:
            raise turn.lost(_AGAIN)
        for name, value in values.items():
            orm.attributes.set_committed_value(row, name, value)
        written_besides = [name for name in column.on_update if name not in values]
        if written_besides:
            with session.no_autoflush:
                session.refresh(row, written_besides)
        after_commit(session, _Following(session, row, turn))

    def _column_of(self, row: object) -> _Column:
        mapper: Mapper[Any] = sqlalchemy.inspect(row).mapper
        column = self._columns.get(mapper)
        if column is None:
            column = self._columns[mapper] = _Column(mapper)
        return column


class _Column:
    """Where a class of rows keeps the state, and the version."""

    def __init__(self, mapper: Mapper[Any]) -> None:
        name = mapper.class_.__name__
        found = [attr for attr in mapper.column_attrs if _MACHINE in attr.columns[0].info]
        if len(found) != 1:
            raise DefinitionError(
                f"{name} has {len(found)} state columns: give it one, `state_column(Order)`"
            )
        self.state: Final[str] = found[0].key
        self.kind: Final[RowKind] = found[0].columns[0].info[_MACHINE]
        if mapper.version_id_col is None:
            raise DefinitionError(
                f"{name} has no version, so that a lost race would not be found: let it inherit from Versioned, or "
                "set version_id_col"
            )
        self.version: Final[str] = mapper.get_property_by_column(mapper.version_id_col).key
        # Such as the time of the last change: an UPDATE writes them besides.
        self.on_update: Final = [
            attr.key
            for attr in mapper.column_attrs
            if any(
                getattr(column, "onupdate", None) is not None
                or getattr(column, "server_onupdate", None) is not None
                for column in attr.columns
            )
        ]
        missing = [field for field in self.kind.fields if field not in mapper.column_attrs]
        if missing:
            raise DefinitionError(
                f"{name} has no column for {', '.join(missing)} of {self.kind.name}: map them"
            )


class _Following:
    """What comes after the commit of a turn, or after its rollback."""

    def __init__(self, session: Session, row: object, turn: RowTurn) -> None:
        self._session, self._row, self._turn = session, row, turn

    def committed(self) -> Coroutine[Any, Any, None]:
        self._turn.committed()
        return self._turn.follow()

    def given_up(self) -> None:
        self._turn.close()

    def rolled_back(self) -> None:
        if self._row in self._session:
            self._session.expire(self._row)  # by itself it would not be after a savepoint
        self._turn.undone(Discarded("the transaction was rolled back", machine_id=self._turn.machine_id))


def _key_of(row: object) -> tuple[Any, ...]:
    return tuple(sqlalchemy.inspect(row).identity)


def _name_of(row: object) -> str:
    """Return a row's id as machine: its table and key."""
    return "-".join([sqlalchemy.inspect(row).mapper.local_table.name, *map(str, _key_of(row))])
