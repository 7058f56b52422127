"""Compares settings: a grid of training runs under ASHA, on images that are decoded once.

    python jobs/tune.py                                                   # four trials on synthetic portraits
    python jobs/tune.py --preset article-grid --data.source path/to/ffhq  # the Keras article's six settings
    python jobs/tune.py --preset article --data.source path/to/ffhq \\
        --grid.optim.name adam sgd rmsprop --grid.optim.lr 0.01 0.001 0.0001
    python jobs/tune.py --run.name grid --run.resume                      # go on after a stop

--grid.GROUP.FIELD takes a list of values of --GROUP.FIELD; every combination is a trial.
On a cluster, from this checkout:

    ray job submit --working-dir . -- python jobs/tune.py --preset article-grid \\
        --data.source s3://bucket/ffhq --run.storage s3://bucket/runs --scale.gpus-per-worker 0.5
"""

from faceae.cli import job
from faceae.config.grid import GridSettings

if __name__ == "__main__":
    job(__doc__ or "", "faceae.drivers.tune:tune", GridSettings)
