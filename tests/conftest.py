"""Fixtures: real images where they are at hand, one Ray instance, one SeaweedFS server a session."""

import io
import time
from pathlib import Path

import pytest
from PIL import Image
from seaweed import Seaweed

from faceae import storage
from faceae.config import Data, Mask, Model, Run, Settings, Train
from faceae.data.synthetic import portrait

pytest.register_assert_rewrite("multinode", "rayhead")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's real images, which are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the real images of ../shared/data are not at hand")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster():
    import ray

    from faceae import cluster

    cluster.connect(2)
    yield
    ray.shutdown()


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """96 small portraits as PNG files in two folders."""
    root = tmp_path_factory.mktemp("faces")
    for number in range(96):
        path = root / f"{number % 2}" / f"face{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(Image.fromarray(portrait(number, 32))))
    return root


def small(source: Path | str, storage: Path | str, name: str, **changes) -> Settings:
    """Settings of a run that takes seconds."""
    groups = {
        "data": {"source": (str(source),), "image_size": 32, "val_fraction": 0.2},
        "mask": {"size": 8},
        "model": {"latent_dim": 16},
        "train": {"epochs": 2, "batch_size": 16},
        "run": {"storage": str(storage), "name": name},
    }
    for key, value in changes.items():
        group, field = key.split("__")
        groups.setdefault(group, {})[field] = value
    from faceae.config import Optim, Scale

    kinds = {"data": Data, "mask": Mask, "model": Model, "train": Train, "run": Run, "optim": Optim, "scale": Scale}
    return Settings(**{group: kinds[group](**fields) for group, fields in groups.items()})


def history(uri):
    return storage.read_lines(f"{uri}/metrics.jsonl")


def figures(uri):
    """What must agree between runs: everything but the times."""
    return [(record["epoch"], record["images"], record["train_loss"], record["val"]) for record in history(uri)]


def assert_same(one, other, rel=1e-5):
    assert [row[:2] for row in one] == [row[:2] for row in other]
    for (_, _, loss, val), (_, _, other_loss, other_val) in zip(one, other, strict=True):
        assert loss == pytest.approx(other_loss, rel=rel)
        assert val == pytest.approx(other_val, rel=rel)


def assert_no_process_is_left(session: int) -> None:
    """Ray's processes must go with the driver that started them; they have its session id."""
    for _ in range(200):  # Ray's agents look for their raylet every few seconds
        if not processes_of(session):
            return
        time.sleep(0.2)
    raise AssertionError(f"left behind: {processes_of(session)}")


def processes_of(session: int) -> dict[int, str]:
    """The processes of a session that have not ended, and their names."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = path.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state != "Z":
            found[int(path.parent.name)] = name
    return found


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
