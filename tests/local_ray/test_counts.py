"""How often things happen: decodes, copies, tasks, waits. Guards speed without a clock; the timings are in bench/."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from faceae import models
from faceae.config import Data, Mask, Model, Optim, Settings
from faceae.corruption import masks
from faceae.data import cache
from faceae.data import loader as loader_module
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
    """Counts torch's operations by name."""

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


def count_operations(steps):
    settings = Settings(data=Data(image_size=SIZE), model=Model(latent_dim=8), optim=Optim(name="sgd"))
    network = models.build(settings).to(memory_format=torch.channels_last)
    state = TrainState(network, settings)
    with Operations() as operations:
        engine.train_one_epoch(network, [batch()] * steps, state, device=CPU)
    return operations.counts


def test_the_host_waits_for_the_device_once_in_twenty_steps(monkeypatch):
    monkeypatch.setitem(engine.CHECK_STEPS, "cpu", engine.CHECK_STEPS["cuda"])
    few, many = (count_operations(steps)["_local_scalar_dense"] for steps in (20, 60))
    assert many - few <= 2 * 2  # two more checks, of two flags each
    assert few <= 4


def test_a_batch_is_copied_once_to_the_device():
    """Its bytes are uploaded as they are and become floats there."""
    with Operations() as operations:
        data = engine.to_device(batch(), CPU)
    # Only the conversions of the image and of the mask to floats copy anything.
    assert operations.counts["_to_copy"] == 2
    assert operations.counts["copy_"] == operations.counts["clone"] == operations.counts["contiguous"] == 0
    assert data.original.is_contiguous(memory_format=torch.channels_last)


@contextmanager
def executions(module):
    """Records the number of tasks of each Ray Data execution."""
    task_counts, plain = [], module.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "execute", lambda source, count, **rest: task_counts.append(count) or plain(source, count, **rest)
        )
        yield task_counts


@pytest.fixture(scope="module")
def decoded(ray_cluster):
    entries = list_sources(["synthetic:80"], "--data.source").entries
    with executions(cache) as task_counts:
        blocks, _ = decode_train(entries, SIZE, lambda images: None)
    return blocks, task_counts


def test_images_are_decoded_by_eight_tasks_or_one_per_block(decoded):
    blocks, task_counts = decoded
    assert task_counts == [8]
    assert len(blocks.refs) == 8
    from faceae.data.reader import FaceSource

    many = list_sources(["synthetic:100000"], "--data.source").entries
    assert len(FaceSource(many, 128).units) == -(-100_000 // (BLOCK_BYTES // image_bytes(128)))


@pytest.mark.parametrize("tasks", [1, 3])
def test_an_epoch_takes_as_many_tasks_as_its_bytes_need(decoded, tasks, monkeypatch):
    monkeypatch.setattr(loader_module, "BURST_BYTES", tasks * 3 * BATCH * image_bytes(SIZE))  # three steps per task
    monkeypatch.setattr(loader_module, "HEAD_BYTES", BATCH * image_bytes(SIZE))
    with executions(loader_module) as task_counts:
        loader = BatchLoader(
            GlobalBatchSampler(decoded[0], 0, BATCH, MaskGenerator(Mask(size=BOX), SIZE)), 0, 1, range(1, 4), tasks
        )
        assert sum(len(batch.pixels) for _ in range(3) for batch in loader.epoch()) == 240
        loader.close()
    assert sum(task_counts) == 3 + 4 + 4  # 9 steps after the first, which the worker draws itself; then 10 per epoch
    assert len(task_counts) == -(-11 // tasks)


def test_batches_are_views_of_their_chunk(decoded):
    loader = BatchLoader(
        GlobalBatchSampler(decoded[0], 0, BATCH, MaskGenerator(Mask(size=BOX), SIZE)), 0, 1, range(1, 3), 1
    )
    list(loader.epoch())
    first, second, *_ = loader.epoch()  # from a burst, in the object store
    loader.close()
    for one, other in ((first.pixels, second.pixels), (first.mask, second.mask)):
        assert not one.flags.owndata
        assert not one.flags.writeable
        assert other.__array_interface__["data"][0] - one.__array_interface__["data"][0] == one.nbytes
