"""How often things happen: decodes, copies, tasks, waits. Guards speed without a clock; the timings are in bench/."""

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import ray
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from faceae import models
from faceae.config import Data, Mask, Model, Optim, Settings
from faceae.corruption import masks
from faceae.data import cache, epoch_masks, mapped
from faceae.data.batch import Batch
from faceae.data.cache import decode
from faceae.data.epoch import EpochKey
from faceae.data.epoch_masks import MaskDrawer
from faceae.data.loader import BatchLoader, Buffers
from faceae.data.reader import BLOCK_BYTES, image_bytes
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.tasks import Inpaint
from faceae.training import engine
from faceae.training.state import TrainState
from faceae.training.transfer import to_device

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


def count_operations(steps, average):
    optim = Optim(name="sgd", average=average)
    settings = Settings(data=Data(image_size=SIZE), model=Model(latent_dim=8), optim=optim)
    network = models.build(settings).to(memory_format=torch.channels_last)
    state = TrainState(network, settings)
    with Operations() as operations:
        engine.train_one_epoch(network, [batch()] * steps, state, device=CPU)
    return operations.counts


@pytest.mark.parametrize("average", [0, 0.1])
def test_the_host_waits_for_the_device_once_in_twenty_steps(average, monkeypatch):
    monkeypatch.setitem(engine.CHECK_STEPS, "cpu", engine.CHECK_STEPS["cuda"])
    few, many = (count_operations(steps, average)["_local_scalar_dense"] for steps in (20, 60))
    assert many - few <= 2 * 2  # two more checks, of two flags each
    assert few <= 4


def test_a_batch_is_copied_once_to_the_device():
    """Its bytes are uploaded as they are and become floats there."""
    with Operations() as operations:
        data = to_device(batch(), CPU)
    # Only the conversions of the image and of the mask to floats copy anything.
    assert operations.counts["_to_copy"] == 2
    assert operations.counts["copy_"] == operations.counts["clone"] == operations.counts["contiguous"] == 0
    assert data.original.is_contiguous(memory_format=torch.channels_last)


@contextmanager
def executions():
    """Records the number of tasks of each execution that decodes images."""
    task_counts, plain = [], cache.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cache, "execute", lambda source, count, **rest: task_counts.append(count) or plain(source, count, **rest)
        )
        yield task_counts


@pytest.fixture(scope="module")
def decoded(ray_cluster):
    entries = list_sources(["synthetic:80"], "--data.source").entries
    with executions() as task_counts:
        blocks, _ = decode(entries, SIZE, lambda images: None)
    return blocks, task_counts


def test_images_are_decoded_by_eight_tasks_or_one_per_block(decoded):
    blocks, task_counts = decoded
    assert task_counts == [8]
    assert len(blocks.refs) == 8
    from faceae.data.reader import FaceSource

    many = list_sources(["synthetic:100000"], "--data.source").entries
    assert len(FaceSource(many, 128).units) == -(-100_000 // (BLOCK_BYTES // image_bytes(128)))


def test_the_first_execution_draws_the_masks_of_as_many_epochs_as_it_has_time_for(decoded, monkeypatch):
    key = EpochKey(0, 3, False)
    images = len(decoded[0])
    for each, last, drawn in ((1e-9, 5, [3, 4, 5]), (0.9 / images, 50, [3, 4]), (9, 50, [3])):
        monkeypatch.setattr(epoch_masks, "seconds_each", lambda task, ids, each=each: each)
        drawer = MaskDrawer(decoded[0], Inpaint(Mask(size=BOX), SIZE))
        assert [each.epoch for each in drawer.burst(key, last)] == drawn


@pytest.mark.parametrize(("limit", "counts"), [(1e9, [1, 2, 4]), (0, [1, 1, 1])])
def test_executions_draw_more_and_more_epochs_until_they_take_too_long(decoded, limit, counts, monkeypatch):
    monkeypatch.setattr(epoch_masks, "seconds_each", lambda task, ids: math.inf)
    monkeypatch.setattr(epoch_masks, "BURST_SECONDS", limit)
    drawer = MaskDrawer(decoded[0], Inpaint(Mask(size=BOX), SIZE))
    raw, seen = drawer.capacity, []
    for epoch in (1, 2, 4):
        seen.append(len(drawer.draw(drawer.burst(EpochKey(0, epoch, False), 50))))
    assert seen == counts
    assert drawer.capacity > raw  # of compressed masks, more can be kept


def test_an_execution_makes_a_table_of_masks_for_each_cpu_from_ids_alone(decoded):
    blocks = replace(decoded[0], refs=[None] * len(decoded[0].refs))  # no pixels are needed, so none are moved
    drawer = MaskDrawer(blocks, Inpaint(Mask(size=BOX), SIZE))
    keys = [EpochKey(0, epoch, epoch == 2) for epoch in (1, 2)]
    one, two = drawer.draw(keys)
    assert one.tables == two.tables
    assert len(one.tables) == len(blocks.refs)
    tables = [ray.get(ref) for ref in dict.fromkeys(one.tables.values())]
    assert len(tables) == min(len(blocks.refs), ray.cluster_resources()["CPU"])
    assert [block for table in tables for block in table["block"].to_pylist()] == list(range(len(blocks.refs)))
    assert tables[0].column_names == ["block", "images", *(key.column for key in keys)]
    assert tables[0]["images"].to_pylist()[0] == 10
    assert sum(table.nbytes for table in tables) < 80 * 2 * SIZE * SIZE // 8 / 2  # compressed


def test_pixels_are_copied_once_from_the_object_store_into_a_batch(decoded):
    sampler = GlobalBatchSampler(decoded[0], 0, BATCH, Inpaint(Mask(size=BOX), SIZE))
    drawer = MaskDrawer(decoded[0], sampler.task)
    loader = BatchLoader(sampler, range(1, 2), lambda key, _: drawer.draw([key])[0])
    first, *_ = loader.epoch()
    (block, *_) = loader.mapped.get(decoded[0].refs)
    loader.close()
    assert first.pixels.base is first.drawn.base  # one array holds both, row by row
    pixels = block.rows("pixels")
    assert not pixels.flags.owndata  # over the memory of the object store
    assert not pixels.flags.writeable


def test_blocks_are_mapped_once(decoded, monkeypatch):
    fetched, plain = [], ray.get
    monkeypatch.setattr(mapped.ray, "get", lambda refs: fetched.extend(refs) or plain(refs))
    keep = mapped.Mapped(10**9)
    for _ in range(3):
        keep.get(decoded[0].refs)
    assert len(fetched) == len(decoded[0].refs)
    fetched.clear()
    few = mapped.Mapped(2 * keep.get(decoded[0].refs[:1])[0].nbytes)
    for number in (0, 1, 0, 2, 0, 1):
        few.get([decoded[0].refs[number]])
    assert [decoded[0].refs.index(ref) for ref in fetched] == [0, 1, 2, 1]  # the least recently used goes first


def test_the_memory_of_a_batch_is_used_again_once_nothing_refers_to_it():
    buffers = Buffers(BATCH, 100)
    first, second = buffers.take(BATCH), buffers.take(3)
    assert not np.shares_memory(first, second)
    view = first[2:4].reshape(2, 10, 10)
    del first
    assert not np.shares_memory(buffers.take(BATCH), view)
    kept = second.ctypes.data
    del second
    again = [buffers.take(BATCH) for _ in range(3)]
    assert kept in [array.ctypes.data for array in again]
    assert not any(np.shares_memory(view, array) for array in again)
