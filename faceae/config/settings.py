"""The settings of a training run: one frozen, typed dataclass for each group of flags.

Every default stands here and nowhere else. A preset (`faceae.config.presets`) is a tree that differs from the defaults;
a dotted flag (`--optim.lr 0.01`) sets any field. Ranges are declared beside the fields and checked by
`faceae.config.validate`. The settings of a grid stand in `faceae.config.grid`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from faceae.config.base import RunSettings, Strict, flag, flat, to_dict
from faceae.errors import InputError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Kind = Literal["box", "strokes", "half", "border", "image"]

_RANGE = r"[1-9]\d*(:[1-9]\d*)?"


def _range(text: int | str) -> tuple[int, int]:
    """A number, or MIN:MAX."""
    least, _, most = str(text).partition(":")
    return int(least), int(most or least)


@dataclasses.dataclass(frozen=True)
class Source(Strict):
    """Which images to read."""

    source: tuple[str, ...] = ("synthetic:1500",)
    """Where the images are: a folder, a zip, a tar or a Parquet file (encoded images or decoded pixels), or a folder of
    archives or Parquet files, local or s3://bucket/path (AWS_ENDPOINT_URL for a server of your own). Several may be
    given. With synthetic:N that many portraits are drawn."""
    image_size: Annotated[int, Field(ge=16, le=4096, multiple_of=16)] = 128
    """Width and height in pixels; larger images are centre-cropped to a square and resized."""
    limit: PositiveInt | None = None
    """Use at most so many images of the source: the same random sample every time."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop, in training before it begins, when a larger share of the images cannot be used."""


@dataclasses.dataclass(frozen=True)
class Data(Source):
    """What to learn from."""

    val_source: tuple[str, ...] = ()
    """Images to validate on. Without it, FFHQ ids are split as FFHQ is (60000/10000), others by val-fraction."""
    val_fraction: Fraction = 0.1
    """Share of the images kept for validation, chosen by a hash of image_id."""


@dataclasses.dataclass(frozen=True)
class Mask(Strict):
    """What is hidden from the network."""

    kind: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("box",)
    """box: black squares. strokes: of a brush. half: one of the four halves. border: all but the middle (outpainting).
    image: masks of your own, from mask.images. Of several kinds each image has one. All at a new random place, or
    another of its kind, in every image and epoch."""
    size: int | str = 28
    """In pixels: the side of a box, the width of a border; brushes are a quarter to half as wide. With MIN:MAX (16:48)
    each mask has its own."""
    count: PositiveInt = 1
    """Boxes in an image."""
    images: str | None = None
    """For the kind image: a folder, zip, tar or Parquet file of masks, white where the hole is."""

    @property
    def sizes(self) -> tuple[int, int]:
        """The least and the most pixels."""
        return _range(self.size)


@dataclasses.dataclass(frozen=True)
class Model(Strict):
    """The network."""

    name: Literal["article", "unet"] = "article"
    """article: strided convolutions, a dense latent vector, transposed convolutions. unet: fills the hole from a window
    around it, with skip connections."""
    latent_dim: PositiveInt = 300
    """Length of the latent vector of the whole face (the article's Z_DIM)."""
    window: Annotated[int, Field(ge=32, multiple_of=8)] = 64
    """unet: side in pixels of the window that the network sees; a larger hole is seen scaled down. For strokes or
    several boxes take the whole frame: data.image-size."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """unet: channels at the finest of its three levels; they double at each of the others."""
    blocks: PositiveInt = 1
    """unet: residual blocks of each level, on the way down and up."""


@dataclasses.dataclass(frozen=True)
class Optim(Strict):
    """The optimizer."""

    name: Literal["adam", "sgd", "rmsprop"] = "adam"
    """The optimizer; sgd is plain, without momentum, as in the article."""
    lr: PositiveFloat = 0.001
    """Learning rate, the same at any number of workers: the batch size is global."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: the rate falls to zero along a half cosine, over the epochs or the minutes, whichever end first."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run in which the rate rises from zero."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep a moving average of the weights, over about this share of the steps so far; it is validated and saved in
    their place (Karras et al., 2024)."""


@dataclasses.dataclass(frozen=True)
class Train(Strict):
    """How to train."""

    epochs: PositiveInt = 12
    """Passes over the training images."""
    max_minutes: PositiveFloat | None = None
    """A budget: training, validation included, ends within so many minutes, even inside an epoch."""
    batch_size: PositiveInt = 64
    """Images a step, over all workers together (the global batch)."""
    loss: Literal["mse", "bce", "l1", "hole"] = "mse"
    """Between the network's output and the original, over the whole frame. hole: the squared error inside the hole,
    and a tenth of that of the frame."""
    augment: Literal["none", "mirror"] = "none"
    """mirror: half of the training images are mirrored, others in every epoch."""
    best_by: Literal["mse", "composite_mse", "hole_mse"] = "mse"
    """The validation metric (lower is better) whose best epoch is kept in model/."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; auto is bf16 on a GPU or a CPU (AVX512-BF16, AMX) that has it, else fp32."""
    checkpoint_minutes: PositiveFloat = 5.0
    """Time between two checkpoints inside an epoch; there is one after each epoch in any case."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the initial weights, the order of the images and the training masks."""


@dataclasses.dataclass(frozen=True)
class Scale(Strict):
    """What to run on."""

    workers: int | str | None = None
    """Training processes (DDP ranks). By default one for each GPU, or one without GPUs. With MIN:MAX (2:8) as many as
    there is room for: the run grows when machines come and shrinks when they go, with the same batches and masks."""
    gpu: Literal["auto", "on", "off"] = "auto"
    """auto: train on GPUs if the cluster has any."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a GPU that a worker takes: with 0.25, four small trials of a grid run on one GPU. Several workers of
    one run cannot share a GPU."""
    wait_minutes: Annotated[float, Field(ge=0)] = 20.0
    """On a cluster, how long to wait for machines that are not there yet: an autoscaler may have to start them."""

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The least and the most workers, or None where the settings leave it open."""
        return None if self.workers is None else _range(self.workers)


@dataclasses.dataclass(frozen=True)
class Output(Strict):
    """Where the results go."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """Folder of the run inside the storage. By default named for what is made, and the time."""
    storage: str = "out"
    """Folder or s3://bucket/path that holds the runs; on several machines, one that all of them reach."""
    resume: bool = False
    """Continue the run of this name from where it stopped (or start it, if there is none)."""


@dataclasses.dataclass(frozen=True)
class Run(Output):
    """Where the results go."""

    track: tuple[Literal["mlflow", "wandb"], ...] = ()
    """Services that are told the metrics as well, beside the TensorBoard files in the run's folder: mlflow
    (MLFLOW_TRACKING_URI) and wandb (WANDB_API_KEY), which take their credentials from the environment."""


@dataclasses.dataclass(frozen=True)
class Settings(RunSettings):
    """All settings of a run."""

    preset: str = "demo"
    """Settings to start from; flags given beside it win. demo: a small model of synthetic portraits.
    article: the Keras article's own settings (15 epochs, batch 64, Adam 0.001, mse, latent 300).
    restore: fills holes better than OpenCV (20 minutes: train.max-minutes)."""
    data: Data = Data()
    mask: Mask = Mask()
    model: Model = Model()
    optim: Optim = Optim()
    train: Train = Train()
    scale: Scale = Scale()
    run: Run = Run()

    FREE_ON_RESUME: ClassVar[frozenset[str]] = frozenset(
        {"preset", "run", "scale", "train.epochs", "train.max_minutes", "train.checkpoint_minutes"}
    )

    @property
    def makes(self) -> str:
        """What the run makes, for its default name."""
        return self.model.name

    def check(self) -> None:
        """Raises InputError if values cannot go together."""
        super().check()
        _check_together(self)


def flags(settings: Settings) -> list[str]:
    """The flags that `faceae.cli.parse` makes these settings of, with the default preset."""
    default = flat(to_dict(Settings()))
    found = []
    for path, value in flat(to_dict(settings)).items():
        if value != default[path] and path != "preset":
            values = value if isinstance(value, list) else [] if value is True else [value]
            found += [flag(path), *(str(each) for each in values)]
    return found


def check_mask(mask: Mask, image_size: int) -> None:
    """Raises InputError if such masks cannot be drawn on images of that side."""
    if not re.fullmatch(_RANGE, str(mask.size)):
        raise InputError(f"--mask.size {mask.size}: write a number of pixels, or MIN:MAX as in 16:48")
    least, most = mask.sizes
    if least > most:
        raise InputError(f"--mask.size {mask.size}: write the smaller number first, as in {most}:{least}")
    for kind, room in (("box", image_size), ("border", image_size // 2 - 1)):
        if kind in mask.kind and most > room:
            raise InputError(
                f"--mask.size {mask.size}: a {kind} of {most} pixels is too large for the {image_size}x{image_size} "
                f"image; use {room} or less, or larger images"
            )
    if ("image" in mask.kind) != (mask.images is not None):
        raise InputError("--mask.images: give the masks together with --mask.kind image, and only with it")


def _check_together(settings: Settings) -> None:
    data, train, scale = settings.data, settings.train, settings.scale
    check_mask(settings.mask, data.image_size)
    if not re.fullmatch(f"None|{_RANGE}", str(scale.workers)):
        raise InputError(f"--scale.workers {scale.workers}: write a number of workers, or MIN:MAX as in 2:8")
    least, most = scale.bounds or (1, 1)
    if least > most:
        raise InputError(f"--scale.workers {scale.workers}: write the smaller number first, as in {most}:{least}")
    if train.batch_size < most:
        raise InputError(
            f"--train.batch-size {train.batch_size}: the global batch is smaller than the {most} workers "
            "that share it; use a larger batch or fewer workers"
        )
    if scale.gpu != "off" and scale.gpus_per_worker < 1 < most:
        raise InputError(
            f"--scale.gpus-per-worker {scale.gpus_per_worker:g}: the {scale.workers} workers of a run cannot share a "
            "GPU (NCCL refuses); use one worker, or a whole GPU for each"
        )
