"""The settings of a training run: one frozen, typed dataclass for each group of flags.

All defaults are defined here and nowhere else. A preset (`faceae.config.presets`) is a tree that differs from the
defaults, and a dotted flag (`--optim.lr 0.01`) sets any single field. Ranges are declared in the fields' types and
checked by `faceae.config.validate`. The settings of a grid are in `faceae.config.grid`.

The docstrings of the classes and fields are the text that `--help` shows, with these line breaks.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from faceae.config.base import Count, Minutes, RunSettings, Strict, Uri, flag, flat, to_dict
from faceae.config.mask import RANGE, Mask, check_mask, least_and_most
from faceae.config.tasks import Noise, Tasks, Upscale, check_task
from faceae.errors import InputError

Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True)
class Source(Strict):
    """The images to read."""

    source: tuple[Uri, ...] = ("synthetic:1500",)
    """Where the images are: one or more sources, local or s3://bucket/path (AWS_ENDPOINT_URL for a server of your own).
    A source is a folder of images, a zip, tar or Parquet file, or a folder of archives or of Parquet files.
    Parquet files hold encoded images or decoded pixels. synthetic:N draws N portraits instead."""
    image_size: Annotated[int, Field(ge=16, le=4096, multiple_of=16)] = 128
    """Width and height in pixels. Larger images are centre-cropped to a square and resized."""
    limit: Count | None = None
    """Use at most this many images of the source: a random sample, the same every time."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop if more than this share of the images cannot be used. Training checks this before its first epoch."""
    verify: bool = False
    """First compare each file of a prepared set with the SHA-256 in its manifest.json, which reads the whole set:
    useful once, after a copy. Sizes and numbers of images are compared in any case."""


@dataclasses.dataclass(frozen=True)
class Data(Source):
    """The images to train and validate on."""

    val_source: tuple[Uri, ...] = ()
    """Images to validate on, one or more sources.
    Without it, FFHQ is split as its authors do (60000/10000), other images by val-fraction."""
    val_fraction: Fraction = 0.1
    """Share of the images kept for validation, selected by a hash of their image_id."""


@dataclasses.dataclass(frozen=True)
class Model(Strict):
    """The network."""

    name: Literal["article", "unet", "vae"] = "article"
    """article: strided convolutions, a dense latent vector, transposed convolutions.
    vae: the same as a variational autoencoder: what is drawn from a normal distribution decodes to faces, too.
    unet: a U-Net with skip connections. It fills a hole from a window around it; other tasks see the whole image."""
    latent_dim: Annotated[int, Field(gt=0, le=2**16)] = 300
    """Length of the latent vector that encodes the whole face (the article's Z_DIM)."""
    window: Annotated[int, Field(ge=32, le=4096, multiple_of=8)] = 64
    """unet: side in pixels of the window that the network sees. A hole that is too large for it is seen scaled down."""
    start: Literal["mean", "membrane"] = "mean"
    """unet, --task inpaint: what the network adds to. mean: the mean colour of what the window shows.
    membrane: a smooth continuation of the known pixels; for strokes, several boxes and other thin holes."""
    width: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 32
    """unet: channels at the finest level; each coarser level has twice as many."""
    levels: Annotated[int, Field(ge=2, le=8)] = 3
    """unet: levels, each with half the resolution of the one before.
    A window of twice the side takes about the same time with half the width and one level more."""
    blocks: Annotated[int, Field(gt=0, le=64)] = 1
    """unet: residual blocks at each level, on the way down and on the way up."""


@dataclasses.dataclass(frozen=True)
class Optim(Strict):
    """The optimizer."""

    name: Literal["adam", "sgd", "rmsprop", "muon"] = "adam"
    """The optimizer; sgd has no momentum, as in the article.
    muon: orthogonal momentum (Jordan et al., 2024), and adam for biases; a U-Net learns in half of adam's steps."""
    lr: PositiveFloat = 0.001
    """Learning rate. Keep it when you change the number of workers: the batch size is global."""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant: the learning rate stays as it is.
    cosine: it falls to zero along a half cosine, over the epochs or the minutes, whichever end first."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run, at its beginning, in which the learning rate rises linearly from zero."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep a moving average of the weights (EMA), over about this share of the steps so far; 0 keeps none.
    The average is validated and saved instead of the weights themselves (Karras et al., 2024)."""


@dataclasses.dataclass(frozen=True)
class Train(Strict):
    """How to train."""

    epochs: Count = 12
    """Passes over the training images."""
    max_minutes: Minutes | None = None
    """Time budget in minutes: training, including validation, ends within it, even inside an epoch."""
    batch_size: Count = 64
    """Images per step, over all workers together (the global batch)."""
    loss: Literal["mse", "bce", "l1", "hole", "psnr"] = "mse"
    """Loss between the network's output and the original. mse, bce and l1 are means over the whole frame.
    hole: the mean squared error inside the hole plus a tenth of that over the whole frame.
    psnr: the logarithm of each image's squared error where it is asked for, in dB: an image counts as much whether its
    error is small or large. For several tasks, or noise of several strengths."""
    kl: Annotated[float, Field(ge=0)] = 0.1
    """vae: weight of the latent vectors' divergence from a normal distribution, as a mean over the image's values,
    beside the loss. Twice the mean squared error that is reached gives the evidence lower bound; more gives better
    samples and worse reconstructions (the beta of a beta-VAE)."""
    kl_warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """vae: share of the run, at its beginning, in which that weight rises from zero."""
    augment: Literal["none", "mirror"] = "none"
    """mirror: mirrors a random half of the training images, a new half in every epoch."""
    sharpen: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run, at its end, in which the network also learns to deceive a critic, which learns to tell filled
    holes from originals (a GAN). Fills get sharper and err more. 0: none."""
    best_by: Literal["mse", "composite_mse", "hole_mse", "last"] = "mse"
    """Validation metric that selects the best epoch, which is kept in model/; lower is better.
    last: the last epoch, whatever its error, as train.sharpen needs it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network. auto: bf16 on a GPU or CPU that supports it (AVX512-BF16 or AMX), otherwise fp32.
    The two give other numbers; name one of them to compare runs of different machines."""
    checkpoint_minutes: Minutes = 5.0
    """Minutes between two checkpoints inside an epoch. A checkpoint is written after every epoch in any case."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Random seed of the initial weights, the order of the images and the training masks."""


@dataclasses.dataclass(frozen=True)
class Scale(Strict):
    """What to run on."""

    workers: int | str | None = None
    """Training processes (DDP ranks). The default is one for each GPU, or one if there is no GPU.
    MIN:MAX (such as 2:8) uses as many as there is room for.
    Such a run grows when machines join and shrinks when they leave, with the same batches and masks."""
    gpu: Literal["auto", "on", "off"] = "auto"
    """auto: train on GPUs if the cluster has any. on: only on GPUs. off: only on CPUs."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU that each worker takes: with 0.25, four trials of a grid run on one GPU.
    The default is a whole GPU, but small trials of a grid share one, see tune.concurrent.
    Workers of the same run cannot share a GPU."""
    wait_minutes: Annotated[float, Field(ge=0, le=1e6)] = 20.0
    """On a cluster, how many minutes to wait for machines that an autoscaler may still have to start."""

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The smallest and the largest number of workers, or None if the settings leave it open."""
        return None if self.workers is None else least_and_most(self.workers)


@dataclasses.dataclass(frozen=True)
class Output(Strict):
    """Where the results go."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)] | None = None
    """Name of the run and of its folder. The default is a prefix, such as the network's name, and the time."""
    storage: Uri = "out"
    """Folder or s3://bucket/path that holds the runs. With several machines, all of them must be able to reach it."""
    resume: bool = False
    """Continue the run of this name from where it stopped, or start it if it does not exist."""


@dataclasses.dataclass(frozen=True)
class Run(Output):
    """Where the results go."""

    track: tuple[Literal["mlflow", "wandb"], ...] = ()
    """Services that also get the metrics, in addition to the TensorBoard files in the run's folder.
    mlflow and wandb take their credentials from the environment (MLFLOW_TRACKING_URI, WANDB_API_KEY)."""


@dataclasses.dataclass(frozen=True)
class Settings(RunSettings):
    """All settings of a training run."""

    preset: str = "demo"
    """Settings to start from; other flags override them.
    demo: a small model trained on synthetic portraits.
    article: the settings of the Keras article (15 epochs, batch size 64, Adam with rate 0.001, mse, latent 300).
    restore: fills holes better than OpenCV does, after 20 minutes of training (train.max-minutes).
    restore-sharp: the same, but for the last 6 minutes it learns to fill them sharply, against a critic.
    denoise, colorize, upscale, repair: these tasks, each trained for 20 minutes.
    article-denoise: the first of them, with the article's network and settings.
    vae: a variational autoencoder of 128 numbers, trained for 20 minutes."""
    task: Tasks = ("inpaint",)
    """What is done to the faces, and what the network is to give back. With several, each face gets one at random.
    inpaint: fill holes (mask). denoise: remove noise (noise). upscale: make small faces large (upscale).
    colorize: colour grey faces. repair: find and replace what does not belong on a face, which is not marked.
    reconstruct: only squeeze faces into the latent vector; nothing is hidden."""
    data: Data = Data()
    mask: Mask = Mask()
    noise: Noise = Noise()
    upscale: Upscale = Upscale()
    model: Model = Model()
    optim: Optim = Optim()
    train: Train = Train()
    scale: Scale = Scale()
    run: Run = Run()

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset(
        {"preset", "run", "scale", "data.verify", "train.epochs", "train.max_minutes", "train.checkpoint_minutes"}
    )

    @property
    def name_prefix(self) -> str:
        """The first part of the run's default name: the network's name."""
        return self.model.name

    @property
    def task_name(self) -> str:
        """The name of the task; of several their names, with `+` between them."""
        return "+".join(self.task)

    def check(self) -> None:
        """Raises InputError if values contradict each other."""
        super().check()
        _check_together(self)


def flags(settings: Settings, start: Settings | None = None) -> list[str]:
    """Returns the flags from which `faceae.cli.parse` makes these settings, on top of others: the default preset."""
    default = flat(to_dict(start or Settings()))
    found = []
    for path, value in flat(to_dict(settings)).items():
        if value != default[path] and path != "preset":
            values = value if isinstance(value, list) else [] if value is True else [value]
            found += [flag(path), *(str(each) for each in values)]
    return found


def command(settings: Settings, start: Settings | None = None) -> str:
    """Returns the command line that trains with these settings, on top of those of a preset, if one is given."""
    preset = ["--preset", start.preset] if start else []
    return f"faceae train {shlex.join([*preset, *flags(settings, start)])}"


def _check_levels(settings: Settings) -> None:
    model, size, step = settings.model, settings.data.image_size, 2**settings.model.levels
    windows = settings.task == ("inpaint",)
    seen, name = ("window", "--model.window") if windows else ("image", "--data.image-size")
    side = min(model.window, size) if windows else size
    if model.name == "unet" and side % step:
        raise InputError(
            f"--model.levels {model.levels}: the {seen} of {side} pixels cannot be halved that often; use a {name} "
            f"that is a multiple of {step}, or fewer levels"
        )


def _check_psnr(settings: Settings) -> None:
    second = {
        "--train.sharpen": bool(settings.train.sharpen),
        "--model.name vae": settings.model.name == "vae",
        "--task repair": settings.task == ("repair",),
    }
    if settings.train.loss == "psnr" and any(second.values()):
        raise InputError(
            f"--train.loss psnr: beside decibels, the second loss of {next(flag for flag in second if second[flag])}, "
            "which is weighed for a squared error, would be nothing; use another loss, such as mse"
        )


def _check_together(settings: Settings) -> None:
    data, train, scale = settings.data, settings.train, settings.scale
    check_mask(settings.mask, data.image_size)
    check_task(settings)
    if not re.fullmatch(f"None|{RANGE}", str(scale.workers)):
        raise InputError(f"--scale.workers {scale.workers}: write a number of workers, or MIN:MAX as in 2:8")
    least, most = scale.bounds or (1, 1)
    if least > most:
        raise InputError(f"--scale.workers {scale.workers}: write the smaller number first, as in {most}:{least}")
    _check_levels(settings)
    if train.sharpen and train.best_by != "last":
        raise InputError(
            f"--train.sharpen {train.sharpen:g}: a sharper fill has a larger error, so --train.best-by {train.best_by} "
            "would keep an epoch from before; use --train.best-by last"
        )
    _check_psnr(settings)
    if train.batch_size < most:
        raise InputError(
            f"--train.batch-size {train.batch_size}: the global batch is smaller than the {most} workers "
            "that share it; use a larger batch or fewer workers"
        )
    if scale.gpu != "off" and scale.gpus_per_worker and scale.gpus_per_worker < 1 < most:
        raise InputError(
            f"--scale.gpus-per-worker {scale.gpus_per_worker:g}: the {scale.workers} workers of a run cannot share a "
            "GPU (NCCL refuses); use one worker, or a whole GPU for each"
        )
