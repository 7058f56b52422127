"""A Ray cluster of processes on this machine, started with `ray start` as a user would, apart from any other Ray."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from processes import assert_no_process_is_left, kill_session
from runs import ROOT
from seaweed import free_ports


class Head:
    """A Ray head that requires a token, and its nodes, apart from any other Ray on this machine."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="faceae-", dir="/tmp"))  # socket paths must be short
        self.gcs, self.dashboard, *self.ports = free_ports(6)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
        }
        self.token = self.run("ray", "get-auth-token", "--generate")
        self.started: list[subprocess.Popen] = []

    def __enter__(self) -> "Head":
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, **environment: str) -> str:
        environment = self.environment | environment
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def start(self, *options: str, **environment: str) -> None:
        """Runs `ray start --block` in a session of its own, to which all its processes belong."""
        workers = ("--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={self.ports.pop()}")
        command = ["ray", "start", "--block", "--object-store-memory=200000000", *workers, *options]
        with (self.folder / f"node{len(self.started)}.log").open("wb") as log:
            node = subprocess.Popen(
                command, env=self.environment | environment, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(node)

    def start_head(self, *options: str, **environment: str) -> None:
        address = (f"--port={self.gcs}", "--node-ip-address=127.0.0.1", f"--ray-client-server-port={self.ports.pop()}")
        dashboard = ("--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}")
        folder = f"--temp-dir={self.folder}"
        self.start("--head", "--num-cpus=0", "--num-gpus=0", folder, *address, *dashboard, *options, **environment)
        self.wait_for(lambda: len(self.nodes("ALIVE")) == 1)

    def nodes(self, state: str) -> list[dict]:
        """The nodes that are ALIVE or DEAD, from the dashboard, which requires the token."""
        url = f"http://127.0.0.1:{self.dashboard}/api/v0/nodes"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
        return [node for node in nodes if node["state"] == state]

    def wait_for(self, condition, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):  # the dashboard is not up yet
                if condition():
                    return
            logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("node*.log"))
            assert all(node.poll() is None for node in self.started), logs
            assert time.monotonic() < deadline, f"waited {seconds} s\n{logs}"
            time.sleep(0.5)

    def stop(self) -> None:
        for node in reversed(self.started):
            node.send_signal(signal.SIGTERM)
        for node in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(10)
            kill_session(node.pid)
            node.wait(10)
            assert_no_process_is_left(node.pid)
