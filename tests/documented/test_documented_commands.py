"""README and docs, followed word for word on a few drawn faces: each command and program ends well.

Runs are shortened by flags at their end. What installs, and what needs AWS, is left out.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documented import PAGES, shown, words
from pictures import png
from PIL import Image
from processes import kill_session
from runs import ROOT
from seaweed import free_ports
from service import health

from faceae import storage
from faceae.data.synthetic import portrait

SHORT = {
    "train": "--data.limit 48 --train.epochs 1 --train.batch-size 16",
    "tune": "--data.limit 48 --train.epochs 2 --train.batch-size 16",
    "evaluate": "--data.limit 8",
}
ELSEWHERE = ("pip", "make", "git", "ray", "aws", "export", "(umask", "(cd", ".venv/bin/pytest")


def draw(folder, count, side=64, extension="png"):
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"face{number}.{extension}").write_bytes(png(Image.fromarray(portrait(number, side))))


@pytest.fixture(scope="module")
def place(tmp_path_factory, seaweed):
    """A folder with all that the commands speak of, and two buckets."""
    folder = tmp_path_factory.mktemp("documented") / "clone"
    for name in ("faces", "ffhq", "images"):
        draw(folder / "path/to" / name, 48)
    for name in ("pictures", "photographs", "mine"):
        draw(folder / "path/to" / name, 4, 160)
    shutil.make_archive(str(folder / "path/to/images1024x1024"), "zip", folder / "path/to/images")
    for name in ("thumbnails128x128", "images1024x1024"):
        draw(folder.parent / "ffhq-dataset" / name, 48)
    hole = np.zeros((160, 160), np.uint8)
    hole[60:90, 50:80] = 255
    (folder / "path/to/masks").mkdir()
    for picture in (folder / "path/to/pictures").iterdir():
        (folder / "path/to/masks" / picture.name).write_bytes(png(Image.fromarray(hole)))
    Image.fromarray(hole).save(folder / "mask.png")
    for name in ("photo.jpg", "old.jpg", "face.jpg", "face.png", "noisy.jpg"):
        Image.fromarray(portrait(7, 160)).save(folder / name)
    seaweed.make_bucket("bucket")
    for bucket in ("faces/ffhq", "bucket/faces"):
        for picture in (folder / "path/to/faces").iterdir():
            storage.write(f"s3://{bucket}/{picture.name}", picture.read_bytes())
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page in PAGES if page.name in ("README.md", "guide.md", "usage.md")],
                         ids=lambda page: page.name)  # fmt: skip
def test_a_page_can_be_followed(page, place):
    follower, failed = Follower(place), []
    for each in shown(page):
        print(f"{each.where}  {each.text.splitlines()[0]}", flush=True)
        if (said := follower.follow(each)) is not None:
            failed.append(f"{each.where}: {each.text}\n{said}")
            print(failed[-1], flush=True)  # now: what follows takes minutes
    follower.stop_service()
    assert not failed, "\n\n".join(failed)


class Follower:
    """Somebody who types what a page shows, in a folder."""

    def __init__(self, folder):
        (self.port,) = free_ports(1)
        self.folder, self.service = folder, None
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def follow(self, each):
        """Runs a command or program to its end; returns what it printed if it failed, otherwise None."""
        for name in re.findall(r'--run\.name (\S+)(?!.*--run\.resume)|"name": "(\w+)"', each.text):
            shutil.rmtree(self.folder / "out" / "".join(name), ignore_errors=True)  # the pages use some names twice
        if each.language == "python":
            shorter = each.text.replace('to/faces"}', 'to/faces", "limit": 48}, train={"epochs": 1, "batch_size": 16}')
            return self._end(self._begin(["python", "-c", shorter.replace('images"', 'images", data={"limit": 8}')]))
        said = words(each.text)
        if not said or said[0] in ELSEWHERE:
            return None
        text = " ".join(map(shlex.quote, said)).replace("localhost:8000", f"localhost:{self.port}")
        if said[0] == "faceae":
            self.stop_service()
            shorter = "" if "--mask.file" in said else SHORT.get(said[1], "")  # a mask file says which images
            text = f"{text.replace('--port 9000', '')} {shorter}"
        if said[:2] == ["faceae", "serve"]:
            self.service = self._begin(["bash", "-c", f"exec {text} --port {self.port}"])
            health(f"http://localhost:{self.port}", self.service)
            return None
        return self._end(self._begin(["bash", "-c", text]))

    def _begin(self, command):
        shell = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **shell)

    def _end(self, running):
        try:
            said = running.communicate(timeout=300)[0]
        finally:
            kill_session(running.pid)
        return said if running.returncode else None

    def stop_service(self):
        if self.service:
            self.service.send_signal(signal.SIGINT)
            self._end(self.service)
            self.service = None
