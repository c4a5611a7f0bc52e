"""The user's own transaction in a turn: rows, the new state and the journal's entry are stored together, or not at all.

Where rows are kept is the business of an integration. This is the seam: what begins a transaction, and what a turn asks
of it. A turn that takes none never sees this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from actorfsm.errors import DefinitionError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actorfsm.journal.entry import Batch
    from actorfsm.journal.protocol import Journal
    from actorfsm.machine.definition import Definition

__all__ = ["Transaction", "Transactions", "check_transactions"]


class Transaction(Protocol):
    """The transaction of one turn. Nothing is asked of the database before a hook does."""

    handle: Any
    """What hooks are given: a session."""
    failure: BaseException | None
    """Why the database refused the rows at the commit; None if it did not."""
    is_over: bool
    """Whether it is committed, undone, or about to be."""

    @property
    def is_used(self) -> bool:
        """Whether a hook has done anything with it."""
        ...

    async def flush(self) -> None:
        """Send what hooks did to the database.

        Raises:
            Exception: It refuses.
        """
        ...

    async def store(self, journal: Journal, batch: Batch) -> None:
        """Commit, with a batch of the journal.

        Raises:
            NotStored: Nothing is stored. If it is for the rows, `failure` says why.
            OutcomeUnknown: Nobody has said: the journal's `settle` will.
        """
        ...

    async def undo(self) -> None:
        """Roll back; it never fails. Twice is once."""
        ...

    def cut(self) -> None:
        """Let go of the connection at once, whoever uses it: what it has under way comes to nothing."""
        ...


class Transactions(Protocol):
    """Begins the transactions of one system."""

    def gives(self, wanted: type[Any]) -> bool:
        """Return whether its sessions are of this class."""
        ...

    def begin(self, machine_id: str) -> Transaction:
        """Return a new transaction for a turn of this machine."""
        ...


def check_transactions(
    transactions: Transactions | None, journal: Journal | None, definitions: Iterable[Definition]
) -> None:
    """Check that what hooks take after the `*` can be given, and stored with the journal.

    Raises:
        DefinitionError: A hook takes what there is not.
        Unsupported: The journal cannot be written inside somebody else's transaction.
    """
    if transactions is not None and not getattr(journal, "shares_transactions", False):
        kept = "in memory" if journal is None else f"at {journal!r}"
        raise Unsupported(
            f"transactions= needs a journal in the database of the sessions, journal='postgresql://...'; this system "
            f"is kept {kept}. Elsewhere let the outbox tell the machine with your rows: ref.on(session).tell(...)"
        )
    for definition in definitions:
        for name, wanted in definition.given.items():
            if transactions is None:
                raise DefinitionError(
                    f"{definition.name}.{name} takes a {wanted.__name__}, and this system has none to give: "
                    "ActorSystem(..., journal='postgresql://...', transactions=Transactions(sessionmaker))"
                )
            if not transactions.gives(wanted):
                raise DefinitionError(
                    f"{definition.name}.{name} takes a {wanted.__name__}, and transactions= gives another class: a "
                    "machine's hook takes the AsyncSession that the sessionmaker makes"
                )
