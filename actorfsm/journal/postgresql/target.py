"""Where a journal is: a URL of PostgreSQL, and the schema there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from actorfsm.errors import JournalUnusable
from actorfsm.journal.postgresql.driver import conninfo_to_dict, psycopg, said_by

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_SCHEMA", "Target", "target_of"]

DEFAULT_SCHEMA: Final = "actorfsm"

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")

_USUAL: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    # A server whose machine or network is gone is found within a minute, not after two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "actorfsm",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A schema of a database.

    Attributes:
        options: How to connect, as libpq calls it.
        schema: The schema.
        shown: The URL without what is secret.
    """

    options: Mapping[str, Any]
    schema: str
    shown: str


def target_of(url: str, schema: str | None = None) -> Target:
    """Return what a URL means.

    Args:
        url: As libpq takes it, `postgresql://user@host:5432/database?sslmode=require`; it may name the schema too,
            as `?schema=`.
        schema: The schema; by default what the URL names, or `actorfsm`.

    Raises:
        JournalUnusable: It is none, or that is no name for a schema.
    """
    _check_secrets(url)
    place, _, query = url.partition("?")
    asked = parse_qsl(query, keep_blank_values=True)
    named = [value for name, value in asked if name == "schema"]
    rest = urlencode([pair for pair in asked if pair[0] != "schema"])
    schema = schema or (named[-1] if named else DEFAULT_SCHEMA)
    if not _SCHEMA.match(schema):
        raise JournalUnusable(
            f"schema={schema!r}: give a name of up to 63 lower-case letters, digits and underscores"
        )
    try:
        options = conninfo_to_dict(f"{place}?{rest}" if rest else place)
    except psycopg.ProgrammingError as error:
        raise JournalUnusable(
            "journal= is no URL of PostgreSQL that can be read; it is postgresql://user@host:5432/database: "
            f"{_without_secrets(said_by(error), place)}"
        ) from None
    return Target({**_USUAL, **options}, schema, _shown(options, schema))


def _check_secrets(url: str) -> None:
    """Check that the password ends where it seems to: libpq would take the rest of it for a host, and name it.

    Raises:
        JournalUnusable: It does not.
    """
    rest = url.partition("://")[2]
    before = re.split("[/?]", rest, maxsplit=1)[0]
    if rest.count("@") > 1 or ("@" in rest and "@" not in before):
        raise JournalUnusable(
            "journal= is no URL of PostgreSQL that can be read: in a user and a password write @ as %40, / as %2F, "
            "? as %3F and % as %25; elsewhere write @ as %40 too"
        )


def _shown(options: Mapping[str, Any], schema: str) -> str:
    user = f"{options['user']}@" if options.get("user") else ""
    port = f":{options['port']}" if options.get("port") else ""
    database = f"/{options['dbname']}" if options.get("dbname") else ""
    within = "" if schema == DEFAULT_SCHEMA else f"?schema={schema}"
    return f"postgresql://{user}{options.get('host', '')}{port}{database}{within}"


def _without_secrets(said: str, place: str) -> str:
    """Return what libpq says of a URL, unless it repeats a part in which a password may stand."""
    secrets = re.findall(r"[^/:@]+(?=@)", place)
    return "it does not say why" if any(secret in said for secret in secrets) else said
