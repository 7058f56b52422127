"""Fixtures for all tests: the team's real images if available, one Ray instance and one SeaweedFS server a session."""

import signal
from pathlib import Path

import pytest
from pictures import png
from PIL import Image
from seaweed import Seaweed

from faceae.data.synthetic import portrait

# A shell's background job, which CI may be, ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("multinode", "rayhead", "runs", "processes")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the team's real images, which are not part of the project; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("the real images in ../shared/data are not available")
    return SHARED


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """96 small portraits as PNG files in two folders."""
    root = tmp_path_factory.mktemp("faces")
    for number in range(96):
        path = root / f"{number % 2}" / f"face{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(Image.fromarray(portrait(number, 32))))
    return root


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory):
    """A SeaweedFS server with an empty bucket; the tests' environment holds its address and credentials."""
    with Seaweed(tmp_path_factory.mktemp("seaweed")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.make_bucket("faces")
        yield server


@pytest.fixture(scope="session")
def ray_cluster(seaweed):
    """Ray on this machine, with CPUs for two training workers and Ray Data, whose processes can reach `seaweed`."""
    import ray

    from faceae.cluster import connection

    connection.connect(2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3(seaweed):
    """The environment variables of `seaweed`, for tests that only need a bucket."""
    return seaweed.environment
