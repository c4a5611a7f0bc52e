"""A way to a server that can be cut: before what is asked gets there, before the answer comes back, or in between."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread
from typing import Literal

__all__ = ["Cut", "Proxy"]

Cut = Literal["before", "after", "late"]
"""Where it is cut: what is asked never gets there; it does, and the answer is lost; or it gets there at `deliver()`."""


class Proxy:
    """Listens on a port of its own and passes on what comes, until it is to be cut.

    Args:
        to: The port of the server, on 127.0.0.1.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._marker = b""
        self._cut: Cut = "before"
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[Thread] = []
        self._deliver = Event()
        self._start(self._accept)

    def cut_at(self, marker: bytes, cut: Cut) -> None:
        """Cut the connection by which these bytes are sent, once."""
        self._cut, self._marker = cut, marker
        self._deliver.clear()

    def deliver(self) -> None:
        """Let get there what was cut off `late`, and wait until the server has done with it."""
        self._deliver.set()
        for thread in self._threads[1:]:
            if thread.name == "late":
                thread.join(10)

    def close(self) -> None:
        self._deliver.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            _end(end)
        for thread in self._threads:
            thread.join(10)
        for end in self._sockets:
            end.close()

    def _start(self, work: object, *arguments: object, name: str = "proxy") -> None:
        thread = Thread(target=work, args=arguments, name=name, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                self._start(self._ask, client, server)
                self._start(self._answer, server, client)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                if self._marker and self._marker in data:
                    self._marker = b""
                    self.cuts += 1
                    if self._cut == "before":
                        break
                    if self._cut == "after":
                        _end(client)  # whatever the server answers does not arrive
                        server.sendall(data)
                        return
                    self._start(self._send_late, client, server, data, name="late")
                    return
                server.sendall(data)
        _end(client)
        _end(server)

    def _send_late(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        _end(client)
        self._deliver.wait(30)
        with suppress(OSError):
            server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            server.settimeout(10)
            while server.recv(1 << 16):
                pass
        _end(server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                client.sendall(data)
        # Of a connection that is cut late the other end is kept.
        _end(client)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
