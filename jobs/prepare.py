"""Decodes images of any form into Parquet shards of pixels, once, for training that starts at once.

    python jobs/prepare.py --data.source path/to/ffhq.zip --run.name ffhq-128       # or a folder, a tar, Parquet
    python jobs/prepare.py --data.source path/to/images1024x1024 --data.image-size 256
    python jobs/prepare.py --run.name ffhq-128 --run.resume                         # go on after a stop
    python jobs/train.py --data.source out/ffhq-128                                 # train on them

On a cluster, from this checkout:

    ray job submit --working-dir . -- python jobs/prepare.py --data.source s3://bucket/ffhq.zip \\
        --run.storage s3://bucket/prepared --run.name ffhq-128
"""

from faceae.cli import job
from faceae.config.jobs import PrepareSettings

if __name__ == "__main__":
    job(__doc__ or "", "faceae.drivers.prepare:prepare", PrepareSettings)
