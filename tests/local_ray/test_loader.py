"""The data path on a real Ray instance: what is decoded, the order of the images, and their masks."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from loading import BOX, SIZE, Masks, key, load_epochs, sampler_of

from faceae.config import Mask
from faceae.corruption import masks
from faceae.data.cache import decode
from faceae.data.epoch_masks import draw_with_pixels
from faceae.data.loader import BatchLoader
from faceae.data.reader import BLOCK_BYTES, image_bytes, pixels_array
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.data.validation import VALIDATION, validation_batches
from faceae.tasks import Inpaint
from faceae.training.transfer import ResidentImages, to_device

pytestmark = pytest.mark.usefixtures("ray_cluster")


def decode_validation(entries):
    return decode(entries, SIZE, lambda images: None, draw_with_pixels(VALIDATION, Inpaint(Mask(size=BOX), SIZE)))


def test_bad_images_are_left_out_and_named(decoded):
    blocks, rejected = decoded
    assert len(blocks.refs) == 7
    assert len(blocks) == 45
    assert sorted(rejected) == [
        (n, "not an image (PNG, JPEG, WEBP, BMP, TIFF, GIF)") for n in ("03a.png", "17a.png", "99.png")
    ]


def test_every_epoch_has_every_image_once_in_a_new_order(decoded):
    first, second = load_epochs(sampler_of(decoded), 0, 1)
    originals = {key(portrait(number, SIZE)) for number in range(45)}
    orders = []
    for epoch in (first, second):
        assert [len(pixels) for pixels, *_ in epoch] == [8, 8, 8, 8, 8, 5]
        seen = [key(image) for pixels, *_ in epoch for image in pixels]
        assert len(seen) == 45
        assert set(seen) == originals
        orders.append(seen)
    assert orders[0] != orders[1]


def test_masks_are_those_of_the_seed_the_epoch_and_the_image_id(decoded):
    ids = {key(portrait(number, SIZE)): f"{number:02}.png" for number in range(45)}
    for number, epoch in enumerate(load_epochs(sampler_of(decoded, seed=5), 0, 1), start=1):
        for pixels, bits, *_ in epoch:
            names = [ids[key(image)] for image in pixels]
            expected = masks.draw(names, Mask(size=BOX), seed=5, epoch=number, image_size=SIZE)
            assert (masks.unpack(bits, SIZE) == expected).all()


def test_half_of_the_images_are_mirrored_in_the_engine(decoded):
    import torch

    sampler = dataclasses.replace(sampler_of(decoded), mirror=True)
    mirrored = []
    for batch in itertools.chain(*load_epochs(sampler)):
        data = to_device(batch, torch.device("cpu"))
        for image, flip, original in zip(batch.pixels, batch.mirrored, data.original, strict=True):
            expected = image[:, ::-1] if flip else image
            assert np.array_equal(original.permute(1, 2, 0).mul(255).round().byte().numpy(), expected)
        mirrored.append(batch.mirrored)
    first, second = np.concatenate(mirrored[:6]), np.concatenate(mirrored[6:])
    assert 10 < first.sum() < 35
    assert (first != second).any()


@pytest.mark.parametrize(("mirror", "first_step"), [(True, 0), (False, 3)])
def test_images_that_the_device_keeps_are_copied_once(decoded, mirror, first_step):
    """A run that resumes inside an epoch has the rest of the images to copy in the next."""
    import torch

    sampler = dataclasses.replace(sampler_of(decoded), mirror=mirror)
    cpu, epochs, full = torch.device("cpu"), range(1, 4), []
    loaders = [
        BatchLoader(sampler, epochs, Masks(sampler), first_step=first_step, resident=resident)
        for resident in (False, True)
    ]
    images = ResidentImages(len(sampler.blocks), SIZE, cpu)
    for _ in epochs:
        for plain, batch in zip(*(loader.epoch() for loader in loaders), strict=True):
            expected, data = to_device(plain, cpu), to_device(batch, cpu, images)
            assert all(torch.equal(one, other) for one, other in zip(expected, data, strict=True))
            assert batch.global_rows == plain.global_rows
            full.append(len(batch.pixels) > 0)
    for loader in loaders:
        loader.close()
    assert all(full[: sampler.steps - first_step])
    assert any(full[sampler.steps - first_step : -sampler.steps]) == (first_step > 0)
    assert not any(full[-sampler.steps :])


def test_a_last_batch_too_small_for_all_workers_is_left_out(decoded):
    sampler = sampler_of(decoded, batch_size=44)  # 45 images: the last batch has one
    shared = dataclasses.replace(sampler, max_workers=2)
    assert [(each.steps, each.images) for each in (sampler, shared)] == [(2, 45), (1, 44)]
    assert len(load_epochs(shared, 1, 2)[0]) == len(load_epochs(shared)[0]) == 1


@pytest.mark.parametrize("first_step", [1, 3, 6])
def test_a_resumed_epoch_continues_with_the_remaining_images(decoded, first_step):
    sampler = sampler_of(decoded)
    whole = load_epochs(sampler, 0, 1, chunk_bytes=18 * SIZE * SIZE * 3)
    rest = load_epochs(sampler, 0, 1, chunk_bytes=18 * SIZE * SIZE * 3, first_step=first_step)
    for batches, others in zip([whole[0][first_step:], whole[1]], rest, strict=True):
        assert len(batches) == len(others)
        for (pixels, bits, *_), (other_pixels, other_bits, *_) in zip(batches, others, strict=True):
            assert (pixels == other_pixels).all()
            assert (bits == other_bits).all()


def test_the_order_does_not_depend_on_chunks_or_the_first_epoch(decoded):
    sampler = sampler_of(decoded)
    usual = load_epochs(sampler, 0, 1, range(1, 4))
    small = load_epochs(sampler, 0, 1, range(1, 4), chunk_bytes=1)
    later = load_epochs(sampler, 0, 1, range(3, 4))
    for one, other in ((usual, small), (usual[2:], later)):
        for batches, others in zip(one, other, strict=True):
            for (pixels, bits, *_), (other_pixels, other_bits, *_) in zip(batches, others, strict=True):
                assert (pixels == other_pixels).all()
                assert (bits == other_bits).all()


def test_shuffle_pools_cover_every_image(decoded, monkeypatch):
    from faceae.data import sampler as module

    monkeypatch.setattr(module, "POOL_BYTES", 15 * SIZE * SIZE * 3)
    sampler = sampler_of(decoded)
    positions = [tuple(p) for p in sampler.blocks.positions()[sampler.permutation(1)]]
    assert sorted(positions) == sorted(tuple(p) for p in sampler.blocks.positions())
    changes = sum(a[0] != b[0] for a, b in itertools.pairwise(positions))
    assert 6 < changes < 40  # mixed within pools of two or three blocks, not over all of them


def test_another_seed_gives_another_order(decoded):
    one, other = sampler_of(decoded, seed=0).permutation(1), sampler_of(decoded, seed=1).permutation(1)
    assert (one != other).any()
    assert (one == sampler_of(decoded, seed=0).permutation(1)).all()


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_validation_has_every_image_once_with_masks_that_never_change(source, world_size):
    entries = list_sources([str(source)], "--data.source").entries
    blocks, _ = decode(entries, SIZE, lambda images: None, draw_with_pixels(VALIDATION, Inpaint(Mask(size=BOX), SIZE)))
    ids = {key(portrait(number, SIZE)): f"{number:02}.png" for number in range(45)}
    seen = []
    for rank in range(world_size):
        for batch in validation_batches(blocks, Inpaint(Mask(size=BOX), SIZE), 4, rank, world_size):
            names = [ids[key(image)] for image in batch.pixels]
            expected = masks.draw(names, Mask(size=BOX), seed=0, epoch=masks.VALIDATION_EPOCH, image_size=SIZE)
            assert (masks.unpack(batch.drawn, SIZE) == expected).all()
            seen += names
    assert sorted(seen) == sorted(ids.values())


def test_images_are_decoded_once_for_all_epochs(source, tmp_path, monkeypatch):
    """Decoding is counted where it happens: each read task adds the number of its images to a file."""
    log = tmp_path / "reads"
    entries = list_sources([str(source)], "--data.source").entries
    from faceae.data import cache, reader

    counting = _Counting(str(log))
    monkeypatch.setattr(cache, "FaceSource", lambda e, size: counting.wrap(reader.FaceSource(e, size)))
    blocks, _ = decode(entries, SIZE, lambda images: None)
    load_epochs(GlobalBatchSampler(blocks, 0, 8, Inpaint(Mask(size=BOX), SIZE)), 0, 1, range(1, 6))
    assert sum(int(line) for line in log.read_text().split()) == len(entries)


class _Counting:
    """Makes every read task write how many images it decodes to a file."""

    def __init__(self, log):
        self.log = log

    def wrap(self, source):
        plain = source.get_read_tasks
        log = self.log

        def tasks(*args, **options):
            wrapped = plain(*args, **options)
            for task in wrapped:
                task._read_fn = _counted(task._read_fn, log)
            return wrapped

        source.get_read_tasks = tasks
        return source


def _counted(read, log):
    def counting():
        for block in read():
            with open(log, "a") as file:
                file.write(f"{block.num_rows}\n")
            yield block

    return counting


def test_a_row_group_larger_than_a_block_is_read_whole(ray_cluster, tmp_path):
    """Ray Data joins the blocks that one read task yields into a table of several chunks."""
    count = BLOCK_BYTES // image_bytes(SIZE) + 50
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    table = pa.table({"image_id": [str(i) for i in range(count)], "pixels": pixels_array(pixels)})
    pq.write_table(table, tmp_path / "one.parquet", row_group_size=count)
    entries = list_sources([str(tmp_path)], "--data.source").entries
    originals = sorted(key(image) for image in pixels)
    blocks, _ = decode(entries, SIZE, lambda images: None)
    assert len(blocks.refs) == 1
    ((*epoch,),) = load_epochs(GlobalBatchSampler(blocks, 0, 64, Inpaint(Mask(size=BOX), SIZE)), 0, 1, range(1, 2))
    assert sorted(key(image) for batch, *_ in epoch for image in batch) == originals
    val, _ = decode(entries, SIZE, lambda images: None, draw_with_pixels(VALIDATION, Inpaint(Mask(size=BOX), SIZE)))
    batches = list(validation_batches(val, Inpaint(Mask(size=BOX), SIZE), 64))
    assert sorted(key(image) for batch in batches for image in batch.pixels) == originals
    ids = {key(image): str(i) for i, image in enumerate(pixels)}
    names = [ids[key(image)] for image in batches[-1].pixels]
    expected = masks.draw(names, Mask(size=BOX), seed=0, epoch=masks.VALIDATION_EPOCH, image_size=SIZE)
    assert (masks.unpack(batches[-1].drawn, SIZE) == expected).all()


def test_pixels_reach_the_engine_without_float_copies(decoded):
    """A chunk holds uint8 pixels and one mask bit per pixel: 4.2 % more than the image, not 8 times as much."""
    (batch, *_), *_ = load_epochs(sampler_of(decoded), 0, 1)
    pixels, bits, *_ = batch
    assert pixels.dtype == bits.dtype == np.uint8
    assert bits.nbytes * 24 == pixels.nbytes


def test_blocks_are_in_the_object_store_once(decoded):
    sizes = ray.experimental.get_object_locations(decoded[0].refs)
    stored = sum(place["object_size"] for place in sizes.values())
    assert stored < 1.1 * 48 * SIZE * SIZE * 3
