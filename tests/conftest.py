"""Fixtures: real images where they are at hand, one Ray instance, one SeaweedFS server a session."""

from pathlib import Path

import pytest
from pictures import png
from PIL import Image
from seaweed import Seaweed

from faceae.data.synthetic import portrait

pytest.register_assert_rewrite("multinode", "rayhead", "runs", "processes")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's real images, which are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the real images of ../shared/data are not at hand")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster():
    import ray

    from faceae.cluster import connection as cluster

    cluster.connect(2)
    yield
    ray.shutdown()


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
    """A SeaweedFS server with an empty bucket, and the environment that its clients need."""
    with Seaweed(tmp_path_factory.mktemp("seaweed")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.make_bucket("faces")
        yield server


@pytest.fixture(scope="session")
def s3(seaweed):
    """The same as its environment only."""
    return seaweed.environment
