"""A real S3 server, from PyPI, which tests can stop and start again."""

import contextlib
import json
import os
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
    """A SeaweedFS server in a folder of its own, on free ports: the store, and a gateway in front of it that speaks S3.

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
        self.store: subprocess.Popen | None = None
        self.gateway: subprocess.Popen | None = None

    def __enter__(self) -> "Seaweed":
        names = ("-master.port", "-volume.port", "-filer.port")
        options = ["-ip=127.0.0.1", "-filer", "-volume.max=100", "-master.volumeSizeLimitMB=64"]
        ports = [f"{name}={self.ports[name]}" for name in names]
        self.store = self._weed("server", f"-dir={self.folder}", *options, *ports)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        if self.store:
            self.store.kill()  # it is slow to exit on SIGTERM
            self.store.wait()

    def start(self, actions: tuple[str, ...] = ALL) -> None:
        """Starts what speaks S3, with `actions` as the rights of its only user; returns once it answers."""
        keys = {
            "accessKey": self.environment["AWS_ACCESS_KEY_ID"],
            "secretKey": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        identity = {"identities": [{"name": "tests", "credentials": [keys], "actions": list(actions)}]}
        (self.folder / "identity.json").write_text(json.dumps(identity))
        options = [f"-config={self.folder / 'identity.json'}", "-port.iceberg=0", "-port.lance=0"]
        ports = [f"-port={self.ports['-s3.port']}", f"-filer=127.0.0.1:{self.ports['-filer.port']}"]
        self.gateway = self._weed("s3", *options, *ports)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kills what speaks S3; the objects stay where they are."""
        if self.gateway:
            self.gateway.kill()
            self.gateway.wait()
            self.gateway = None

    def _weed(self, *arguments: str) -> subprocess.Popen:
        command = [str(Path(sys.executable).with_name("weed")), *arguments]
        # If it had AWS_ACCESS_KEY_ID, SeaweedFS would make that key an administrator.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with (self.folder / f"{arguments[0]}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

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
        logs = [self.folder / "server.log", self.folder / "s3.log"]
        for _ in range(240):
            assert self.store.poll() is None, logs[0].read_text()[-2000:]
            assert self.gateway.poll() is None, logs[1].read_text()[-2000:]
            try:
                urllib.request.urlopen(self.environment["AWS_ENDPOINT_URL"], timeout=1)
            except urllib.error.HTTPError:
                return  # it answers, if only to refuse an anonymous request
            except OSError:
                time.sleep(0.25)
        raise AssertionError(f"SeaweedFS does not answer: {[log.read_text()[-2000:] for log in logs]}")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below 20000 because SeaweedFS also uses each port + 10000."""
    with contextlib.ExitStack() as stack:
        ports = []
        port = 11000 + 16 * os.getpid() % 8000  # pytest-xdist's processes have neighbouring pids
        while len(ports) < count:
            port += 1
            probe = stack.enter_context(socket.socket())
            upper = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                upper.bind(("127.0.0.1", port + 10000))
                ports.append(port)
        return ports
