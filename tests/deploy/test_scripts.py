"""What a node installs, the lock of the spot notice, and what `ray job submit --working-dir .` sends."""

import fcntl
import hashlib
import io
import os
import re
import shutil
import socket
import subprocess
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from runs import ROOT
from test_deploy import LAUNCHED, commands, load

INSTALL = ROOT / "deploy" / "install-uv.sh"


@pytest.mark.parametrize("name", LAUNCHED)
def test_nodes_run_nothing_from_the_network_that_was_not_checked(name):
    config = load(name)
    setup = "\n".join(commands(config, key) for key in config if key.endswith("setup_commands"))
    assert config["file_mounts"]["~/faceae/install-uv.sh"] == "deploy/install-uv.sh"
    assert "bash ~/faceae/install-uv.sh" in setup
    assert not re.search(r"curl|wget|\| *(ba)?sh\b|\.local", setup)


@pytest.fixture
def pypi(tmp_path):
    """A server that gives the same wheel at every path; the path of its program, `uv --version`."""
    wheel = io.BytesIO()
    version = re.search(r"version=(\S+)", INSTALL.read_text())[1]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"uv-{version}.data/scripts/uv", f"#!/bin/sh\necho uv {version}\n")

    class Wheel(SimpleHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            Wheel.asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(wheel.getvalue())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Wheel) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", hashlib.sha256(wheel.getvalue()).hexdigest(), Wheel
        server.shutdown()


def install(script: Path, home: Path, url: str) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYPI_FILES": url}
    return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)


def test_a_wheel_of_uv_with_another_digest_is_not_installed(tmp_path, pypi):
    url, _, _ = pypi
    done = install(INSTALL, tmp_path, url)
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_uv_is_installed_once_in_a_folder_of_its_own(tmp_path, pypi):
    url, digest, server = pypi
    script = tmp_path / "install.sh"
    script.write_text(re.sub(r"sha256=\w+", f"sha256={digest}", INSTALL.read_text()))
    for _ in range(2):
        assert install(script, tmp_path, url).returncode == 0
    assert os.access(tmp_path / "faceae" / "bin" / "uv", os.X_OK)
    assert server.asked == 1


def test_the_spot_notice_takes_no_lock_in_a_folder_that_others_can_write(tmp_path):
    home, shared = tmp_path / "home", tmp_path / "tmp"
    (home / ".ray").mkdir(parents=True)
    shared.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(shared)}
    with (home / ".ray" / f"spot-notice-{socket.gethostname()}-127.0.0.9.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        script = ["bash", ROOT / "deploy" / "spot-notice.sh", "127.0.0.9"]
        assert subprocess.run(script, env=environment, timeout=20, check=False).returncode == 0
    assert not list(shared.iterdir())


def test_a_submitted_job_carries_its_code_and_nothing_else_of_the_checkout(tmp_path):
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("faceae", "jobs", "tests/helpers", "deploy", "docs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    for name in (".gitignore", ".rayignore", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    data = ("ffhq-dataset/thumbnails128x128/0.png", "out/run/model/model.safetensors", ".venv/lib/torch.so", "x.zip")
    for name in data:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        with (checkout / name).open("wb") as file:
            file.truncate(2**30)  # sparse
    package = tmp_path / "package.zip"
    create_package(str(checkout), package, True, get_runtime_env_default_excludes())
    sent = set(zipfile.ZipFile(package).namelist())
    needed = {str(path.relative_to(tmp_path)) for name in ("faceae", "jobs") for path in (checkout / name).rglob("*.*")}
    assert {name for name in sent if not name.endswith("/")} == needed
    assert package.stat().st_size < 2**22
