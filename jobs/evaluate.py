"""Measures a saved model on any images: metrics beside the baselines, a value an image, pictures.

    python jobs/evaluate.py out/ffhq/model path/to/images                        # masks as in training
    python jobs/evaluate.py out/ffhq/model path/to/ffhq --data.subset val        # what its run kept for validation
    python jobs/evaluate.py out/ffhq/model path/to/images --mask.kind box strokes border --mask.size 8:48

LPIPS and FID are not among the metrics: the packages that have them download a network's weights when they run.
On a cluster, from this checkout:

    ray job submit --working-dir . -- python jobs/evaluate.py s3://bucket/runs/ffhq/model s3://bucket/test \\
        --run.storage s3://bucket/evaluations
"""

from faceae.cli import job
from faceae.config.jobs import EvaluateSettings

if __name__ == "__main__":
    job(__doc__ or "", "faceae.drivers.evaluate:evaluate", EvaluateSettings)
