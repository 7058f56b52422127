"""Restores pictures with a hole in them, in bulk, each at its own size: MODEL SOURCE DEST.

    python jobs/reconstruct.py out/ffhq/model path/to/pictures out/restored             # holes are black boxes
    python jobs/reconstruct.py out/ffhq/model pictures.zip out/restored --masks masks   # white where the hole is

The same command again goes on after a stop: pictures that are in DEST are left as they are. On a cluster, from this
checkout:

    ray job submit --working-dir . -- python jobs/reconstruct.py s3://bucket/runs/ffhq/model \\
        s3://bucket/pictures s3://bucket/restored
"""

from faceae.cli import job
from faceae.config.jobs import ReconstructSettings

if __name__ == "__main__":
    job(__doc__ or "", "faceae.drivers.reconstruct:reconstruct", ReconstructSettings)
