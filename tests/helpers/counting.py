"""Counts the requests that reach a server: a proxy that passes on the bytes of every connection as they are."""

import contextlib
import re
import socket
import threading
from collections import Counter


class Requests:
    """A proxy on a free port; requests are counted by method, from the first line of each.

    Attributes:
        port: where it listens.
        counts: number of requests by method.
        received: bytes that the server has sent.
    """

    def __init__(self, target: int) -> None:
        self.target, self.counts, self.received = target, Counter(), 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def __enter__(self) -> "Requests":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError), source, sink:
            while content := source.recv(65536):
                if counted:
                    self.counts.update(re.findall(rb"^(GET|HEAD|PUT|POST) /\S* HTTP", content, re.MULTILINE))
                else:
                    self.received += len(content)
                sink.sendall(content)
