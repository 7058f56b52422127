"""A real S3 server, from PyPI, which tests can stop and start again."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from pyarrow.fs import FileSystem

ALL = ("Admin", "Read", "Write", "List", "Tagging")


class Seaweed:
    """A SeaweedFS server in a folder of its own, on free ports.

    Attributes:
        environment: the environment variables that clients need, which are AWS' own; the server's only user has these
            credentials.
    """

    def __init__(self, folder: Path) -> None:
        names = ("-s3.port", "-master.port", "-volume.port", "-filer.port")
        self.folder, self.ports = folder, dict(zip(names, free_ports(len(names)), strict=True))
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['-s3.port']}",
            "AWS_ACCESS_KEY_ID": "face-key",
            "AWS_SECRET_ACCESS_KEY": "face-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.server: subprocess.Popen | None = None

    def __enter__(self) -> "Seaweed":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self, actions: tuple[str, ...] = ALL) -> None:
        """Starts the server with `actions` as the rights of its only user; returns once it answers."""
        keys = {
            "accessKey": self.environment["AWS_ACCESS_KEY_ID"],
            "secretKey": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        identity = {"identities": [{"name": "tests", "credentials": [keys], "actions": list(actions)}]}
        (self.folder / "identity.json").write_text(json.dumps(identity))
        options = [
            "-ip=127.0.0.1",
            "-volume.max=100",
            "-master.volumeSizeLimitMB=64",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        command = [
            str(Path(sys.executable).with_name("weed")),
            "server",
            f"-dir={self.folder}",
            "-s3",
            f"-s3.config={self.folder / 'identity.json'}",
            *options,
            *(f"{name}={port}" for name, port in self.ports.items()),
        ]
        # If it had AWS_ACCESS_KEY_ID, SeaweedFS would make that key an administrator.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with (self.folder / "log").open("wb") as log:
            self.server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kills the server, because it is slow to exit on SIGTERM."""
        if self.server:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait()
            self.server = None

    def make_bucket(self, name: str) -> None:
        """Makes a bucket; retries until the server is ready for it."""
        filesystem, _ = FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
        for attempt in range(40):
            try:
                return filesystem.create_dir(name)
            except OSError:
                if attempt == 39:
                    raise
                time.sleep(0.5)

    def _wait(self) -> None:
        for _ in range(240):
            assert self.server.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(self.environment["AWS_ENDPOINT_URL"], timeout=1)
            except urllib.error.HTTPError:
                return  # it answers, if only to refuse an anonymous request
            except OSError:
                time.sleep(0.25)
        raise AssertionError(f"SeaweedFS does not answer: {(self.folder / 'log').read_text()[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below 20000 because SeaweedFS also uses each port + 10000."""
    with contextlib.ExitStack() as stack:
        ports = []
        port = 11000 + os.getpid() % 4000
        while len(ports) < count:
            port += 1
            probe = stack.enter_context(socket.socket())
            upper = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                upper.bind(("127.0.0.1", port + 10000))
                ports.append(port)
        return ports
