"""A `faceae serve` in a process of its own, and pictures to send to it."""

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import requests
from PIL import Image
from processes import processes_of
from runs import ROOT
from seaweed import free_ports

from faceae.data.synthetic import portrait

TOKEN = "a token of a test"
KNOWS = {"Authorization": f"Bearer {TOKEN}"}
SIZE = 96


def encoded(pixels, form="PNG"):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


def scratched():
    """A picture and a hole across it."""
    hole = np.zeros((SIZE, SIZE), bool)
    hole[40:44, 20:70] = True
    return portrait(0, SIZE).copy(), hole


class Running:
    """A service in a process of its own, with the network that comes with faceae.

    On a Ray of its own, unless the environment names a cluster.
    """

    def __init__(self, folder, *flags, environment=None):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        environment = environment or {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment |= {"FACEAE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "faceae", "serve", "--port", str(port), *flags]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipe)

    def wait(self):
        return health(self.url, self.process)

    def copies(self):
        """The pids of the processes that hold the model."""
        return replicas(self.process.pid)

    def post(self, path, headers=KNOWS, **files):
        return requests.post(f"{self.url}/{path}", files=files, headers=headers, timeout=60)


def health(url, process):
    """Waits until the service of a process answers; what it says of itself."""
    for _ in range(600):
        assert process.poll() is None, process.stdout.read()
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if (answer := requests.get(f"{url}/health", timeout=5)).ok:
                return answer.json()
        time.sleep(0.2)
    raise AssertionError("it does not answer")


@contextlib.contextmanager
def clients(count, ask):
    """So many threads that ask, each again as soon as it has its answer; gives the list of all answers so far."""
    answers, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            answers.append(ask())

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def replicas(session):
    """The pids of a session's processes that hold the model of a service."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in processes_of(session)}
    return [pid for pid, line in lines.items() if line.startswith("ray::ServeReplica:faceae:Replica")]


def until(reached):
    for _ in range(1200):
        if reached():
            return
        time.sleep(0.1)
    raise AssertionError("it took more than two minutes")
