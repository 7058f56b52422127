"""Proxies that pass on the bytes of every connection to a server as they are: one counts requests, one is slow."""

import contextlib
import re
import socket
import threading
import time
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
                self._on(content)
                if counted:
                    self.counts.update(re.findall(rb"^(GET|HEAD|PUT|POST) /\S* HTTP", content, re.MULTILINE))
                else:
                    self.received += len(content)
                sink.sendall(content)

    def _on(self, content: bytes) -> None:
        """Called before some bytes are passed on, in either direction."""


class SlowLink(Requests):
    """A proxy with a latency, and with a bandwidth that all connections share."""

    def __init__(self, target: int, latency_s: float, bytes_per_s: float) -> None:
        super().__init__(target)
        self.latency_s, self.bytes_per_s, self._line = latency_s, bytes_per_s, threading.Lock()

    def _on(self, content: bytes) -> None:
        if len(content) < 65536:  # the first and last part of a request or an answer; those between follow at once
            time.sleep(self.latency_s / 2)
        with self._line:
            time.sleep(len(content) / self.bytes_per_s)
