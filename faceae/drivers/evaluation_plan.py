"""What an evaluation measures, and with which holes: decided and checked before any worker starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from faceae import config, models, storage
from faceae.config import Data, Noise, Settings, TaskName
from faceae.config.holes import parse
from faceae.config.jobs import OWN_SIZE_HOLES, EvaluateSettings
from faceae.console import count
from faceae.data import frozen_masks
from faceae.data.execution import Replicas
from faceae.data.mask_library import read_masks
from faceae.data.sources import Entry, Listing, list_sources
from faceae.data.split import Split, choose, sample
from faceae.errors import InputError
from faceae.evaluation import frozen, pca
from faceae.evaluation.baselines import LOOKED_AT, Comparison, chosen
from faceae.evaluation.holes import DrawnHoles, EveryPixel, FrozenHoles, Holes, HolesOfTasks, OwnSizeHoles
from faceae.evaluation.identity import check_installed
from faceae.evaluation.pca import Pca
from faceae.evaluation.pictures import PictureScoring, score_pictures
from faceae.evaluation.scoring import SCORES, Scoring, score
from faceae.models import Restorer
from faceae.reporting.pages import damage
from faceae.tasks import Inpaint, Several, Task, create

_HIDDEN_AT_OWN_SIZE = 10_000  # pixels in all holes of a picture, supposed before any is read

_PORTRAIT = 128  # side in pixels of synthetic portraits where there is no model that has a size


@dataclass(frozen=True)
class Plan:
    """What an evaluation measures.

    Attributes:
        model: the model; None if MODEL is a source of pictures that another program has restored.
        restored: those pictures, by image_id, one for each mask of the image.
        listing: the images.
        image_size: side in pixels of an image when it is measured; None at the pictures' own size.
        mask: the settings of the masks, for summary.json.
        damage: what is done to the faces, in words that follow "faces".
        holes: makes the holes, once the cluster is connected, in whose object store masks lie.
        pca: the linear model of the images that the model was trained on, a baseline; None if there is none.
        whole: the task of a model that is asked for all pixels; None for one that fills holes.
    """

    model: Restorer | None
    restored: dict[str, list[Entry]]
    listing: Listing
    image_size: int | None
    mask: dict[str, Any]
    damage: str
    holes: Callable[[], Holes]
    pca: Pca | None
    whole: Task | None = None

    @staticmethod
    def create(settings: EvaluateSettings) -> Plan:
        """Loads the model, lists the images and checks that they go together.

        Raises:
            InputError: the input is wrong, or the extra that it needs is missing.
        """
        if settings.identity:
            check_installed()
        if settings.mask.file:
            return _frozen_plan(settings, settings.mask.file)
        model, linear = load(settings.model, settings.task)
        if settings.own_size:
            model.check_fills_holes()
            names = settings.mask.holes or OWN_SIZE_HOLES
            holes = OwnSizeHoles(tuple(map(parse, names)))
            words = f"with {count(len(names), 'hole')} one after the other, {' '.join(names)}"
            listing = listed(settings, model.settings.data)
            return Plan(model, {}, listing, None, {"holes": list(names)}, words, lambda: holes, linear)
        trained = _changed(settings, model.settings)
        listing, size = listed(settings, trained.data), trained.data.image_size
        if trained.task != ("inpaint",):
            task = create(trained)
            every = HolesOfTasks(task) if isinstance(task, Several) else EveryPixel(trained.task_name)
            return Plan(model, {}, listing, size, {}, damage(trained), lambda: every, linear, task)
        library = read_masks(trained.mask.images, size)

        def drawn() -> Holes:
            return DrawnHoles(Inpaint(trained.mask, size, library and library.shared()))

        return Plan(model, {}, listing, size, config.to_dict(trained.mask), damage(trained), drawn, linear)

    @property
    def task_name(self) -> str:
        """The name of the task, or those of several."""
        return self.model.settings.task_name if self.model else "inpaint"

    @property
    def subject(self) -> str:
        """What restores the images, in words."""
        return self.model.settings.model.name if self.model else "another program"

    @property
    def score_metric(self) -> str:
        """The metric that is the score of an image."""
        if self.model is None or self.image_size is None:
            return "hole_mse"
        return SCORES[self.model.settings.model.name]

    def scoring(self, batch_size: int, identity: bool) -> Scoring | PictureScoring:
        """Puts model and masks together for the cluster, which must be connected."""
        holes, comparison = self._holes_and_baselines()
        if self.model is not None and self.image_size is not None:
            task = self.whole or Inpaint(self.model.settings.mask, self.image_size)
            return Scoring(self.model, holes, task, batch_size, comparison, identity)
        portrait = self.model.settings.data.image_size if self.model else _PORTRAIT
        side, own_size = self.image_size or portrait, self.image_size is None
        return PictureScoring(self.model, self.restored, holes, side, own_size, comparison, identity)

    def _holes_and_baselines(self) -> tuple[Holes, Comparison]:
        holes, entries = self.holes(), self.listing.entries
        hidden: float = 1 if self.whole else _HIDDEN_AT_OWN_SIZE  # see `run_baselines`
        if (size := self.image_size) and not self.whole:
            places = [(entry.image_id, size, size) for entry in sample(entries, LOOKED_AT)]
            bits = (frozen_masks.bits(row) for rows in holes.rows(places) for row in rows)
            hidden = sum(int.from_bytes(each).bit_count() for each in bits) / len(places)
        return holes, Comparison(self.pca, chosen(entries, hidden))

    def score(self, scoring: Scoring | PictureScoring, replicas: Replicas) -> Iterator[pa.Table]:
        """Measures on the cluster, see `faceae.evaluation.scoring.score`."""
        if isinstance(scoring, Scoring):
            return score(self.listing.entries, scoring, replicas)
        return score_pictures(self.listing.entries, scoring, replicas)


def _frozen_plan(settings: EvaluateSettings, uri: str) -> Plan:
    table = frozen.read(uri)
    if _is_model(settings.model):
        model, linear = load(settings.model, settings.task)
        model.check_fills_holes()
        restored = {}
    else:
        model, linear, pictures = None, None, frozen.restored_pictures(settings.model)
        restored = frozen.match_restored(pictures, table, settings.model)
    size = None
    if not settings.own_size:
        size = frozen.check_square(table, uri, model.settings.data.image_size if model else None)
    listing = list_sources(settings.data.source, settings.SOURCE_FLAG, settings.data.verify)
    listing = frozen.only_masked(listing, table, uri)
    words = f"with the holes of {uri}"
    return Plan(model, restored, listing, size, {"file": uri}, words, lambda: FrozenHoles.create(table), linear)


def _is_model(uri: str) -> bool:
    """Whether a place may be meant as a model's: one with a config.json, or one that does not exist."""
    try:
        return storage.exists(storage.join(uri, "config.json")) or not storage.exists(uri)
    except InputError as error:
        raise InputError(f"MODEL {error}") from None


def load(uri: str, task: TaskName | None = None) -> tuple[Restorer, Pca | None]:
    """Returns the model, with the settings that it was trained with, and the PCA of its training images, if any."""
    try:
        model = models.load(uri)
        return model.for_task(task) if task else model, pca.read(uri)
    except InputError as error:
        raise InputError(f"MODEL {error}") from None


def _changed(settings: EvaluateSettings, trained: Settings) -> Settings:
    """Returns the settings of a model's training with what the evaluation's flags change in the damage.

    Raises:
        InputError: they are for another task, or contradict each other.
    """
    sigma = settings.noise.sigma
    for flag, given, task in (("--mask", settings.mask.drawn, "inpaint"), ("--noise.sigma", sigma, "denoise")):
        if given and task not in trained.task:
            raise InputError(f"{flag}: the model was trained for --task {' '.join(trained.task)}; leave it out")
    mask = settings.mask.applied_to(trained.mask)
    noise = trained.noise if sigma is None else Noise(sigma)
    changed = dataclasses.replace(trained, mask=mask, noise=noise)
    changed.check()
    return changed


def listed(settings: EvaluateSettings, trained: Data) -> Listing:
    """Lists the images to measure, of a model that was trained on some."""
    listing = list_sources(settings.data.source, settings.SOURCE_FLAG, settings.data.verify)
    entries: Sequence[Entry] = listing.entries
    if settings.data.subset == "val":
        kept = _kept_for_validation(settings.data.source, trained)
        entries = [entry for entry in entries if entry.image_id in kept]
        if not entries:
            raise InputError(
                f"SOURCE {' '.join(settings.data.source)}: the model's run kept none of these images for validation; "
                f"it was trained on {' '.join(trained.source)}"
            )
    return Listing(choose(entries, settings.data.limit), listing.refused)


def _kept_for_validation(source: tuple[str, ...], trained: Data) -> set[str]:
    """Returns the ids of the images that the model's run validated on.

    Lists that run's own source to find them: the split hashes the ids, so other ids would give another split.
    """
    if trained.val_source and [*map(storage.absolute, source)] != [*map(storage.absolute, trained.val_source)]:
        raise InputError(
            f"--data.subset val: the model's run validated on {' '.join(trained.val_source)}; name that as SOURCE"
        )
    try:
        return {entry.image_id for entry in Split(trained).val}
    except InputError as error:
        raise InputError(f"--data.subset val needs the source that the model was trained on: {error}") from None
