"""Trains a face autoencoder.

    python jobs/train.py                                                  # synthetic portraits, this machine
    python jobs/train.py --preset article --data.source path/to/ffhq      # the article's settings on FFHQ
    python jobs/train.py --scale.workers 4                                # four GPUs, or four CPU processes
    python jobs/train.py --run.name faces --run.resume                    # go on after a stop

On a cluster, from this checkout:

    ray job submit --working-dir . -- python jobs/train.py --preset article \\
        --data.source s3://bucket/ffhq --run.storage s3://bucket/runs --scale.workers 2:8
"""

from faceae.cli import job

if __name__ == "__main__":
    job(__doc__ or "", "faceae.drivers.train:train")
