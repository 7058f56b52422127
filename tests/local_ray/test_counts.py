"""How often things are done: decodes, copies, tasks, waits. Guards speed without a clock; the timings are in bench/."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from faceae import models
from faceae.config import Data, Mask, Model, Optim, Settings
from faceae.corruption import masks
from faceae.data import cache, loader
from faceae.data.batch import Batch
from faceae.data.cache import decode_train
from faceae.data.loader import BatchLoader
from faceae.data.mask_generator import MaskGenerator
from faceae.data.reader import BLOCK_BYTES, image_bytes
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.training import engine
from faceae.training.state import TrainState

SIZE, BOX, BATCH = 32, 8, 8
CPU = torch.device("cpu")


class Operations(TorchDispatchMode):
    """Counts torch's operations by their names."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def batch(images=BATCH):
    pixels = np.stack([portrait(number, SIZE) for number in range(images)])
    drawn = masks.draw([str(i) for i in range(images)], Mask(size=BOX), seed=0, epoch=1, image_size=SIZE)
    return Batch(pixels, masks.pack(drawn), images)


def steps_counted(steps):
    settings = Settings(data=Data(image_size=SIZE), model=Model(latent_dim=8), optim=Optim(name="sgd"))
    network = models.build(settings).to(memory_format=torch.channels_last)
    state = TrainState(network, settings)
    with Operations() as operations:
        engine.train_one_epoch(network, [batch()] * steps, state, device=CPU)
    return operations.counts


def test_the_host_waits_for_the_device_once_in_twenty_steps(monkeypatch):
    monkeypatch.setitem(engine.CHECK_STEPS, "cpu", engine.CHECK_STEPS["cuda"])
    few, many = (steps_counted(steps)["_local_scalar_dense"] for steps in (20, 60))
    assert many - few <= 2 * 2  # two looks more, each at two flags
    assert few <= 4


def test_a_batch_is_copied_once_to_the_device():
    """Its bytes as they are; floats are made of them there."""
    with Operations() as operations:
        data = engine.to_device(batch(), CPU)
    # original and mask become floats, the bits' positions are looked at: no other copy.
    assert operations.counts["_to_copy"] == 2
    assert operations.counts["copy_"] == operations.counts["clone"] == operations.counts["contiguous"] == 0
    assert data.original.is_contiguous(memory_format=torch.channels_last)


@contextmanager
def executions(module):
    """Notes how many tasks each execution of Ray Data has."""
    parts, plain = [], module.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "execute", lambda source, count, **rest: parts.append(count) or plain(source, count, **rest)
        )
        yield parts


@pytest.fixture(scope="module")
def decoded(ray_cluster):
    entries = list_sources(["synthetic:80"], "--data.source").entries
    with executions(cache) as parts:
        blocks, _ = decode_train(entries, SIZE, lambda images: None)
    return blocks, parts


def test_images_are_decoded_by_eight_tasks_or_one_for_each_block(decoded):
    blocks, parts = decoded
    assert parts == [8]
    assert len(blocks.refs) == 8
    from faceae.data.reader import FaceSource

    many = list_sources(["synthetic:100000"], "--data.source").entries
    assert len(FaceSource(many, 128).units) == -(-100_000 // (BLOCK_BYTES // image_bytes(128)))


@pytest.mark.parametrize("tasks", [1, 3])
def test_an_epoch_costs_as_many_tasks_as_its_bytes_need(decoded, tasks, monkeypatch):
    monkeypatch.setattr(loader, "BURST_BYTES", tasks * 3 * BATCH * image_bytes(SIZE))  # three steps a task
    monkeypatch.setattr(loader, "HEAD_BYTES", BATCH * image_bytes(SIZE))
    with executions(loader) as parts:
        running = BatchLoader(
            GlobalBatchSampler(decoded[0], 0, BATCH, MaskGenerator(Mask(size=BOX), SIZE)), 0, 1, range(1, 4), tasks
        )
        assert sum(len(batch.pixels) for _ in range(3) for batch in running.epoch()) == 240
        running.close()
    assert sum(parts) == 3 + 4 + 4  # 9 steps beside the first, which the worker draws itself; then 10 an epoch
    assert len(parts) == -(-11 // tasks)


def test_batches_are_views_of_their_chunk(decoded):
    running = BatchLoader(
        GlobalBatchSampler(decoded[0], 0, BATCH, MaskGenerator(Mask(size=BOX), SIZE)), 0, 1, range(1, 3), 1
    )
    list(running.epoch())
    first, second, *_ = running.epoch()  # of a burst, from the object store
    running.close()
    for one, other in ((first.pixels, second.pixels), (first.mask, second.mask)):
        assert not one.flags.owndata
        assert not one.flags.writeable
        assert other.__array_interface__["data"][0] - one.__array_interface__["data"][0] == one.nbytes
