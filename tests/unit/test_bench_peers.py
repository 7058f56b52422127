"""The loaders that `make bench` compares with deliver what faceae does, otherwise their figures would mean nothing."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import png
from PIL import Image

from bench.peer_loaders import PEERS, Peer, names_of
from bench.processes import cpu_seconds, family
from bench.settings import BOX
from faceae.config import Mask
from faceae.corruption import masks
from faceae.data.synthetic import portrait

SIZE, IMAGES = 32, 300
INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(peer.module), reason="not installed"))
    for name, peer in PEERS.items()
]


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [portrait(number, SIZE) for number in range(IMAGES)]


@pytest.fixture(scope="module", params=INSTALLED)
def peer(request) -> type[Peer]:
    return PEERS[request.param]


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory, pictures) -> Path:
    """The pictures in the format of a peer."""
    root = tmp_path_factory.mktemp("peer")
    paths = [root / f"{number:05}.png" for number in range(IMAGES)]
    for path, pixels in zip(paths, pictures, strict=True):
        path.write_bytes(png(Image.fromarray(pixels)))
    peer.convert(paths, root / "converted", SIZE)
    return root / "converted"


def test_a_peer_delivers_every_image_once_an_epoch_with_the_mask_of_that_epoch(peer, folder, pictures):
    loader = peer(folder, SIZE)
    next(loader.epoch())  # the bench starts the workers this way; the epoch after it must be whole
    orders, epochs = [], []
    for _ in range(2):
        seen = []
        for batch in loader.epoch():
            ids = batch.ids.tolist()
            assert (batch.pixels.numpy() == np.stack([pictures[number] for number in ids])).all()
            drawn = masks.draw(names_of(ids), Mask(size=BOX), seed=0, epoch=batch.epoch, image_size=SIZE)
            assert (batch.mask.numpy() == masks.pack(drawn)).all()
            seen += ids
        assert sorted(seen) == list(range(IMAGES))
        orders.append(seen)
        epochs.append(batch.epoch)
    assert orders[0] != orders[1]
    assert epochs[0] != epochs[1]


def test_a_peer_goes_on_in_mid_epoch_without_an_image_twice_or_lost(peer, folder):
    loader = peer(folder, SIZE)
    steps = sum(1 for _ in loader.epoch())
    before = [batch.ids.tolist() for batch in itertools.islice(loader.epoch(), steps // 2)]
    if loader.state() is None:
        pytest.skip("it cannot, as its docstring says")
    again = peer(folder, SIZE)
    again.resume(loader.state())
    after = [batch.ids.tolist() for batch in again.epoch()]
    assert len(before) == steps // 2
    assert sorted(itertools.chain(*before, *after)) == list(range(IMAGES))


def test_processor_time_counts_processes_of_any_generation_and_those_that_have_ended():
    spin = "import time\nwhile time.process_time() < 0.4: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}]); input()"
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", spin], check=True)
    ended = cpu_seconds() - before
    with subprocess.Popen([sys.executable, "-c", nested + "; print(1)"], stdin=subprocess.PIPE) as process:
        while cpu_seconds() - before < ended + 0.38:
            assert process.poll() is None
        assert process.pid in family()
        process.communicate(b"\n")
    assert ended >= 0.38
    assert cpu_seconds() - before >= 0.78
