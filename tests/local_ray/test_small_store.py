"""A cache larger than the object store: Ray keeps the rest on disk, and no image is lost."""

import subprocess
import sys

import pytest
from runs import ROOT

SCRIPT = """
import hashlib, logging
import ray, ray.data

logging.getLogger("ray.data").setLevel(logging.ERROR)
ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
from faceae.config import Mask
from faceae.tasks import Inpaint
from faceae.data.cache import decode, fits
from faceae.data.epoch_masks import MaskDrawer
from faceae.data.loader import BatchLoader
from faceae.data.sampler import GlobalBatchSampler
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait

entries = list_sources(["synthetic:1000"], "--data.source").entries
assert not fits(len(entries), 256)
blocks, _ = decode(entries, 256, lambda images: None)
sampler = GlobalBatchSampler(blocks, 0, 64, Inpaint(Mask(), 256))
drawer = MaskDrawer(blocks, sampler.task)
loader = BatchLoader(sampler, range(1, 3), lambda key, _: drawer.draw([key])[0])
drawn = {hashlib.sha256(portrait(number, 256).tobytes()).digest() for number in range(len(entries))}
for _ in range(2):
    seen = [hashlib.sha256(image.tobytes()).digest() for batch in loader.epoch() for image in batch.pixels]
    assert len(seen) == len(entries) and set(seen) == drawn
loader.close()
print("all there")
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes several times as long
def test_a_cache_larger_than_the_object_store_loses_nothing():
    """197 MB of images, and the masks of two epochs, in a store of 84 MB."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("all there\n"), done.stderr[-3000:]
