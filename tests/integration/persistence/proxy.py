"""A TCP proxy before a server, that breaks the link where a test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Forwards to ``port``. `cut_after(word)`: the next message to the server that holds ``word`` is
    delivered, and its answer is not: both links are closed once the server has answered. `cut_at(size)`: the
    next link that delivers so many bytes from the server is closed behind them, inside a message or not."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._word: bytes | None = None
        self._deliver = True
        self._left: int | None = None
        self.mute = False  # what the server says is swallowed, and nobody is told
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut_after(self, word: bytes, *, deliver: bool = True) -> None:
        self._word, self._deliver = word, deliver

    def cut_at(self, size: int) -> None:
        self._left = size

    def cut_all(self) -> None:
        """End every link that stands now; new ones are taken."""
        links, self._sockets = self._sockets, []
        for link in links:
            _close(link)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._sockets:
            _close(link)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [client, server]
            cut = threading.Event()
            for arguments in ((client, server, cut, True), (server, client, cut, False)):
                thread = threading.Thread(target=self._forward, args=arguments)
                thread.start()
                self._threads.append(thread)

    def _forward(
        self, source: socket.socket, to: socket.socket, cut: threading.Event, to_server: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if to_server and self._word is not None and self._word in data:
                    self._word = None
                    self.cuts += 1
                    cut.set()
                    if not self._deliver:
                        break
                elif not to_server and cut.is_set():
                    break  # the answer to what was cut
                elif not to_server and self._left is not None:
                    self._left -= len(data)
                    if self._left <= 0:
                        to.sendall(data[: len(data) + self._left])
                        self._left = None
                        self.cuts += 1
                        break
                if to_server or not self.mute:
                    to.sendall(data)
        _close(source)
        _close(to)


def _close(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
