"""Several ranks, on one node or on several: who trains on which image, and what is sent between nodes."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from loading import Masks, key, load_epochs, sampler_of

from faceae.config import Mask
from faceae.data.cache import Blocks
from faceae.data.loader import BatchLoader, Ranks
from faceae.data.sampler import GlobalBatchSampler, assign
from faceae.tasks import Inpaint

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_each_global_batch_evenly(decoded, world_size):
    sampler = sampler_of(decoded)
    alone = load_epochs(sampler)
    shares = [load_epochs(sampler, rank, world_size) for rank in range(world_size)]
    for number, epoch in enumerate(alone):
        for step, batch in enumerate(epoch):
            parts = [share[number][step] for share in shares]
            assert {part.global_rows for part in parts} == {batch.global_rows}
            assert [len(part.pixels) for part in parts] == [
                len(range(rank, batch.global_rows, world_size)) for rank in range(world_size)
            ]
            together = [(key(image), bits.tobytes()) for part in parts for image, bits in zip(*part[:2], strict=True)]
            whole = [(key(image), bits.tobytes()) for image, bits in zip(*batch[:2], strict=True)]
            assert sorted(together) == sorted(whole)


def test_a_rank_trains_on_the_images_of_its_home_and_on_others_only_where_it_has_too_few():
    rng = np.random.default_rng(0)
    for rows, world_size in ((8, 2), (64, 8), (13, 5), (7, 7), (6, 1)):
        homes = rng.integers(0, world_size, (20, rows))
        ranks = assign(homes, world_size)
        for home, rank in zip(homes, ranks, strict=True):
            room = [len(range(r, rows, world_size)) for r in range(world_size)]
            assert np.bincount(rank, minlength=world_size).tolist() == room
            at_home = np.bincount(rank[rank == home], minlength=world_size)
            assert (at_home == np.minimum(room, np.bincount(home, minlength=world_size))).all()


def test_most_of_a_batch_stays_at_home_in_a_set_larger_than_a_shuffle_pool():
    """FFHQ on eight nodes of one GPU: without pools that have blocks of all homes, 0.18 of it crossed."""
    blocks = Blocks([None] * 118, [np.arange(512, dtype=np.int32)] * 118)
    sampler = GlobalBatchSampler(blocks, 0, 1024, Inpaint(Mask(size=28), 128), max_workers=8)
    homes = sampler.homes(sampler.permutation(1), 8).reshape(-1, 1024)
    assert len(np.unique(homes[0])) == 8
    assert 0 < (assign(homes, 8) != homes).mean() < 0.13


class Rendezvous:
    """Exchanges rows between ranks that are threads of this process."""

    def __init__(self, world_size):
        self.barrier, self.sent = threading.Barrier(world_size), [None] * world_size

    def of(self, rank):
        def exchange(rows, sent, received):
            self.sent[rank] = np.split(rows, np.cumsum(sent)[:-1])
            self.barrier.wait()
            arrived = [parts[rank] for parts in self.sent]
            self.barrier.wait()
            assert [len(part) for part in arrived] == received
            exchanged[rank] += len(rows)
            return np.concatenate(arrived)

        exchanged = self.exchanged = getattr(self, "exchanged", [0] * len(self.sent))
        return exchange


@pytest.mark.parametrize("nodes", [("a", "b", "c"), ("a", "a", "b")])
@pytest.mark.parametrize("mirror", [False, True])
def test_rows_of_other_nodes_arrive_with_their_masks(decoded, nodes, mirror):
    """Ranks on several nodes get the same batches as ranks on one, and only what does not come out even is sent."""
    sampler = dataclasses.replace(sampler_of(decoded), mirror=mirror)
    together = Rendezvous(len(nodes))

    def load(rank):
        loader = BatchLoader(sampler, range(1, 4), Masks(sampler), Ranks(rank, nodes, together.of(rank)))
        batches = [list(loader.epoch()) for _ in range(2)]
        next(loader.epoch())  # all leave the third epoch at the same step
        loader.close()
        return batches

    with ThreadPoolExecutor(len(nodes)) as threads:
        spread = list(threads.map(load, range(len(nodes))))
    for rank, epochs in enumerate(spread):
        for batches, others in zip(epochs, load_epochs(sampler, rank, len(nodes)), strict=True):
            for batch, other in zip(batches, others, strict=True):
                for one, two in zip(batch, other, strict=True):
                    assert np.array_equal(one, two)
    assert 0 < sum(together.exchanged) < 3 * 45 / 2


def test_after_a_failed_exchange_no_other_is_begun(decoded):
    """The other ranks would take its rows for those of the one that failed."""
    calls = []

    def fail(rows, sent, received):
        calls.append(len(rows))
        raise RuntimeError("the connection was closed")

    sampler = sampler_of(decoded)
    loader = BatchLoader(sampler, range(1, 4), Masks(sampler), Ranks(0, ("a", "b"), fail))
    with pytest.raises(RuntimeError, match="the connection was closed"):
        next(loader.epoch())
    loader.close()
    assert len(calls) == 1
