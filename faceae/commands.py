"""The jobs that `faceae` and jobs/*.py run: text of --help, settings class and driver of each.

`restore` has no file in jobs/: it runs on one machine, so nobody submits it to a cluster.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A job of the command line.

    Attributes:
        summary: what the job does, in one line.
        examples: example command lines for --help.
        settings: "module:class" of the job's settings.
        driver: "module:function" of the driver, which takes the settings.
    """

    summary: str
    examples: str
    settings: str
    driver: str

    @property
    def help(self) -> str:
        """Text at the top of --help."""
        return f"{self.summary}\n\n{self.examples}"


COMMANDS = {
    "train": Command(
        "Trains a network that restores faces: fills holes in them, or removes noise, colours or enlarges them.",
        """\
    faceae train                                                  # synthetic portraits, this machine, two minutes
    faceae train --preset restore --data.source path/to/ffhq      # fills holes better than OpenCV: 20 minutes
    faceae train --preset denoise --data.source path/to/ffhq      # another task; also colorize and upscale
    faceae train --preset article --data.source path/to/ffhq      # the Keras article's settings
    faceae train --scale.workers 4                                # four GPUs, or four CPU processes
    faceae train --run.name faces --run.resume                    # continue after a stop

On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/train.py --preset restore \\
        --data.source s3://bucket/ffhq --run.storage s3://bucket/runs --scale.workers 2:8""",
        "faceae.config:Settings",
        "faceae.drivers.train:train",
    ),
    "tune": Command(
        "Compares settings: a grid of training runs, or a search, on images that are decoded once.",
        """\
    faceae tune                                                   # four trials on synthetic portraits: a minute
    faceae tune --preset article-grid --data.source path/to/ffhq  # the Keras article's six settings
    faceae tune --preset restore --data.source path/to/ffhq \\
        --grid.optim.lr 0.004 0.002 0.001 --grid.model.width 32 48
    faceae tune --preset restore --data.source path/to/ffhq --tune.search optuna --grid.optim.lr 1e-4:1e-1:log
    faceae tune --run.name grid --run.resume                      # continue after a stop

--grid.GROUP.FIELD takes a list of values of --GROUP.FIELD; every combination is a trial.
On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/tune.py --preset article-grid \\
        --data.source s3://bucket/ffhq --run.storage s3://bucket/runs --scale.gpus-per-worker 0.5""",
        "faceae.config.grid:GridSettings",
        "faceae.drivers.tune:tune",
    ),
    "prepare": Command(
        "Decodes images in any format once, into Parquet shards of pixels, so that training starts without delay.",
        """\
    faceae prepare --data.source path/to/ffhq.zip --run.name ffhq-128       # or a folder, a tar, Parquet
    faceae prepare --data.source path/to/images1024x1024 --data.image-size 256
    faceae prepare --run.name ffhq-128 --run.resume                         # continue after a stop
    faceae train --data.source out/ffhq-128                                 # train on them

On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/prepare.py --data.source s3://bucket/ffhq.zip \\
        --run.storage s3://bucket/prepared --run.name ffhq-128""",
        "faceae.config.jobs:PrepareSettings",
        "faceae.drivers.prepare:prepare",
    ),
    "evaluate": Command(
        "Measures a saved model on any images: metrics and baselines for each image, with the best and worst shown.",
        """\
    faceae evaluate out/ffhq/model path/to/images                        # masks as in training
    faceae evaluate out/ffhq/model path/to/ffhq --data.subset val        # the run's validation images
    faceae evaluate out/ffhq/model path/to/images --mask.kind box strokes border --mask.size 8:48
    faceae evaluate out/ffhq/model path/to/photographs --own-size        # as reconstruct restores them
    faceae evaluate out/clean/model path/to/images --noise.sigma 25      # a model of --task denoise
    faceae evaluate out/fix/model path/to/images --anomaly               # a model of --preset repair
    faceae evaluate out/ffhq/model path/to/images --mask.file out/test/masks.parquet   # another one's holes

The metrics do not include LPIPS and FID: the packages that compute them download a network's weights when they run.
On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/evaluate.py s3://bucket/runs/ffhq/model s3://bucket/test \\
        --run.storage s3://bucket/evaluations""",
        "faceae.config.jobs:EvaluateSettings",
        "faceae.drivers.evaluate:evaluate",
    ),
    "embed": Command(
        "Writes the latent vectors of pictures as Parquet, and which of them are nearest to others: MODEL SOURCE.",
        """\
    faceae embed out/ffhq/model path/to/faces                                    # one vector for each picture
    faceae embed out/ffhq/model s3://bucket/faces --neighbours 5 --queries mine  # and those most like mine
    faceae embed out/ffhq/model path/to/faces --run.name faces --run.resume      # continue after a stop

On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/embed.py s3://bucket/runs/ffhq/model s3://bucket/faces \\
        --run.storage s3://bucket/latents""",
        "faceae.config.embed:EmbedSettings",
        "faceae.drivers.embed:embed",
    ),
    "restore": Command(
        "Restores one picture at its own size, without a cluster: PICTURE OUT.",
        """\
    faceae restore old.jpg --mask mask.png restored.png       # white where the hole is; the newest model in out/
    faceae restore face.png restored.png                      # the holes are black boxes
    faceae restore old.jpg --mask mask.png restored.png --model out/ffhq/model --grow 3 --feather 3
    faceae restore noisy.jpg clean.png --model out/clean/model   # a model of another task: the whole picture

It does what `faceae reconstruct` does with a folder of pictures. In Python:

    faceae.load("out/ffhq/model")("old.jpg", "mask.png").save("restored.png")""",
        "faceae.config.restore:RestoreSettings",
        "faceae.drivers.restore:restore",
    ),
    "serve": Command(
        "Serves a model: a page to restore photographs by painting, and an address for programs.",
        """\
    faceae serve                                   # http://localhost:8000, with the newest model in out/
    faceae serve out/ffhq/model --port 9000
    FACEAE_TOKEN=... faceae serve out/ffhq/model --host 0.0.0.0 --replicas 4    # for others, who need the token
    curl -F image=@old.jpg -F mask=@mask.png http://localhost:8000/restore -o restored.jpg

Needs the extra faceae[serve]. On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/serve.py s3://bucket/runs/ffhq/model --host 0.0.0.0""",
        "faceae.config.serve:ServeSettings",
        "faceae.drivers.serve:serve",
    ),
    "reconstruct": Command(
        "Restores pictures in bulk, each at its own size: MODEL SOURCE DEST.",
        """\
    faceae reconstruct out/ffhq/model path/to/pictures out/restored             # holes are black boxes
    faceae reconstruct out/ffhq/model pictures.zip out/restored --masks masks   # white where the hole is
    faceae reconstruct out/ffhq/model scans out/restored --masks mask.png       # one mask for all of its shape
    faceae reconstruct out/ffhq/model scans out/restored --masks masks --grow 3 --feather 3 --format source
    faceae reconstruct out/clean/model noisy out/restored                       # a model of another task

The same command continues after a stop: pictures that are already in DEST are left as they are.
On a cluster, from a checkout:

    ray job submit --working-dir . -- python jobs/reconstruct.py s3://bucket/runs/ffhq/model \\
        s3://bucket/pictures s3://bucket/restored""",
        "faceae.config.restore:ReconstructSettings",
        "faceae.drivers.reconstruct:reconstruct",
    ),
}
