"""Where the machines behind the servers are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgresql_server import Server


def on_a_server(request: pytest.FixtureRequest) -> str:
    server: Server = request.getfixturevalue("postgresql_server")
    return server.url(more=f"?schema={server.new_schema()}")


@pytest.fixture(params=["file", "postgresql"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a journal is."""
    return str(tmp_path / "orders.db") if request.param == "file" else on_a_server(request)


@pytest.fixture(params=["memory", "postgresql"])
def kept(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a server whose machines are in memory, or in a journal on a PostgreSQL server."""
    return {} if request.param == "memory" else {"journal": on_a_server(request)}
