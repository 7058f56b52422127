"""Restores pictures of any size with a network that works on squares of one size.

A hole is restored piece by piece (see `faceae.corruption.pieces`), each at the scale that it needs (see `windows`), and
the result is pasted inside the hole only: the known pixels stay exactly as they are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from faceae.config import Settings, TaskName
from faceae.corruption import edges
from faceae.corruption.components import Box
from faceae.corruption.pieces import pieces
from faceae.errors import InputError
from faceae.models import mixing, thin, whole_picture
from faceae.models.frame import FrameUnet
from faceae.models.picture_model import PictureModel, copies, redone
from faceae.models.unet import WindowUnet, place
from faceae.models.windows import Hole, Pixels, Square, View, Window, around, in_frame, paste

BATCH = 64
"""Number of windows that the network sees at a time."""

HOLE_SHARE = 28 / 64
"""The part of a window's side that a hole takes: in training 28 of 64 pixels, see the preset `restore`."""


class Restorer(PictureModel):
    """A trained network for use. Called with tensors it runs the network, called with a picture it restores it.

    Attributes:
        network: the trained network.
        settings: the settings of its training.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings

    def forward(self, image: Any, mask: Any = None, *, grow: int = 0, feather: int = 0) -> Any:  # noqa: ANN401
        """Restores a batch of images given as tensors, or one picture, see `PictureModel.forward`.

        Args:
            image: a batch, (N, 3, S, S) float in [0, 1] and black inside the hole; or a picture.
            mask: for a batch, (N, 1, S, S) float, 1 inside the hole; for a picture, a mask or its path. Models that
                were trained for another task than to fill holes take pictures without a mask.
            grow: for a picture, how many pixels the hole is larger than the mask to each side.
            feather: for a picture, how many pixels inside the hole the fill is blended with what the picture has there.

        Returns:
            For a batch, the network's output, (N, 3, S, S) float32 in [0, 1]; for a picture, the picture restored.

        Raises:
            InputError: the picture or the mask is missing, cannot be used, or has another type or size than these; or
                the model fills no holes, see `check_fills_holes`.
        """
        if isinstance(image, Tensor):
            return self.network(image, mask)
        if not self.whole:
            return super().forward(image, mask, grow=grow, feather=feather)
        if mask is not None or grow or feather:
            self.check_fills_holes()
        return redone(image, self.redo)

    def redo(self, picture: Pixels) -> Pixels:
        """Does the model's task, one that asks for every pixel, on a picture of any size, see `whole_picture.redo`.

        Raises:
            InputError: see `check_redoes_pictures`.
        """
        self.check_redoes_pictures()
        assert isinstance(self.network, FrameUnet)
        return whole_picture.redo(self.network, self.settings, picture)

    def check_servable(self) -> None:
        """Raises InputError unless the model can restore pictures of any size, as it stands."""
        if self.whole:
            self.check_redoes_pictures()

    def check_redoes_pictures(self) -> None:
        """Raises InputError if the network knows one size only, or several tasks."""
        self._check_one_task()
        if not isinstance(self.network, FrameUnet):
            task, size = self.settings.task_name, self.settings.data.image_size
            raise InputError(
                f"a model of --task {task} with --model.name {self.settings.model.name} redraws faces of {size}x{size} "
                "only: give it batches, model(given, mask), or train one with --model.name unet"
            )

    def for_task(self, task: TaskName) -> Restorer:
        """Returns the same model for one of the tasks that it was trained for.

        Raises:
            InputError: it was not trained for that.
        """
        if task not in self.settings.task:
            raise InputError(f"this model was trained for --task {' '.join(self.settings.task)}, not for {task}")
        return Restorer(self.network, dataclasses.replace(self.settings, task=(task,))).eval()

    def _check_one_task(self) -> None:
        if len(self.settings.task) > 1:
            named = " ".join(self.settings.task)
            raise InputError(f"this model was trained for --task {named}; choose one with --task, or model.for_task()")

    @property
    def whole(self) -> bool:
        """Whether the model asks for every pixel of a picture; otherwise it fills holes."""
        return self.settings.task_name != "inpaint"

    @property
    def gives_colours(self) -> bool:
        """Whether a grey picture becomes a coloured one."""
        return self.settings.task_name == "colorize"

    def check_fills_holes(self) -> None:
        """Raises InputError if the model was trained for a task other than to fill holes."""
        self._check_one_task()
        if self.whole:
            raise InputError(
                f"this model was trained for --task {self.settings.task_name} and fills no holes; use it without "
                "masks, and without --grow and --feather"
            )

    @torch.inference_mode()
    def restore(self, pictures: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """Restores several pictures, see `PictureModel.restore`; those of a batch share the network's batches."""
        self.check_fills_holes()
        restored = copies(pictures, holes)
        thick, large = ([_thicker(hole, share) for hole in holes] for share in (thin.SHARE, thin.LARGEST))
        for number, (picture, hole) in enumerate(zip(pictures, holes, strict=True)):
            plain = mixing.plain(picture, hole, large[number])
            large[number] &= ~plain
            thick[number] &= ~plain
        thin.fill_thin(restored, holes, [hole & ~part for hole, part in zip(holes, large, strict=True)], self._device)
        # Of what is between, a face says little and its surroundings do not say all.
        between = [part & ~larger for part, larger in zip(thick, large, strict=True)]
        local = list(map(mixing.copies, restored, between))
        self._fill_thick(restored, thick)
        for picture, hole, part, fills in zip(restored, holes, between, local, strict=True):
            mixing.mix(picture, hole, part, fills)
        return restored

    def _fill_thick(self, restored: Sequence[Pixels], unknown: Sequence[Hole]) -> None:
        """Fills what is unknown with the trained network; afterwards nothing is."""
        faces: dict[tuple[int, Square], Tensor] = {}
        for turn in itertools.zip_longest(*(self._windows(number, hole) for number, hole in enumerate(unknown))):
            filled = list(itertools.chain.from_iterable(each for each in turn if each))
            windows = iter(filled)
            while batch := list(itertools.islice(windows, BATCH)):
                for number, frame in {(window.number, window.frame) for window in batch} - faces.keys():
                    faces[number, frame] = self._face(View(restored[number], unknown[number], frame))
                views = [View(restored[window.number], unknown[window.number], window.seen) for window in batch]
                for window, view, drawn in zip(batch, views, self._draw(batch, views, faces), strict=True):
                    paste(view.joined(drawn), window, restored[window.number], unknown[window.number])
            for window in filled:  # not before, so that no batch sees what another has filled
                unknown[window.number][window.piece.inside] = False

    @property
    def _size(self) -> int:
        """Side in pixels of what the network sees at a time."""
        return self.network.window if isinstance(self.network, WindowUnet) else self.settings.data.image_size

    def _windows(self, number: int, hole: Hole) -> Iterator[list[Window]]:
        """Yields the windows in which a picture is restored, in turns; see `pieces`."""
        frame = min(hole.shape)
        for turn in pieces(hole, round(self._size * HOLE_SHARE), frame):
            yield [around(number, piece, hole.shape, self._side(piece, frame)) for piece in turn]

    def _side(self, piece: Box, frame: int) -> int:
        """Returns the side of the window for a piece, in pixels of a picture with this frame."""
        if not isinstance(self.network, WindowUnet):
            return frame
        longest = max(piece.bottom - piece.top, piece.right - piece.left)
        return min(max(self._size, round(longest / HOLE_SHARE)), frame)

    def _face(self, view: View) -> Tensor:
        """Encodes the face in a frame and its mirror image, (2, C, 1, 1), for the U-Net; other networks need none."""
        if not isinstance(self.network, WindowUnet):
            return torch.empty(0)
        given, known = (seen[None].to(self._device) for seen in view.scaled(self.settings.data.image_size))
        return self.network.face(torch.cat([given, given.flip(3)]), 1 - torch.cat([known, known.flip(3)]))

    def _draw(
        self, windows: Sequence[Window], views: Sequence[View], faces: Mapping[tuple[int, Square], Tensor]
    ) -> Tensor:
        """Returns what the network draws in each window, (N, 3, size, size) in [0, 1], on the CPU.

        Raises:
            InputError: the output is not finite.
        """
        seen = zip(*(view.scaled(self._size) for view in views), strict=True)
        colours, known = (torch.stack(tensors).to(self._device) for tensors in seen)
        if isinstance(self.network, WindowUnet):
            face, mirrored_face = torch.stack([faces[window.number, window.frame] for window in windows], 1)
            places = torch.tensor([in_frame(window) for window in windows], device=self._device)
            grid = place(places[:, :2], places[:, 2], self._size)
            drawn = self.network.draw(colours, known, grid, face)
            if self.network.average_mirrored:
                mirror = place(places[:, :2] * places.new_tensor([-1, 1]), places[:, 2], self._size)
                mirrored = self.network.draw(colours.flip(3), known.flip(3), mirror, mirrored_face).flip(3)
                drawn = (drawn + mirrored) / 2
        else:
            drawn = self.network(colours, 1 - known)
        if not drawn.isfinite().all():  # as bytes they would be black
            raise InputError("the model's output is not finite: its weights are damaged, or its training diverged")
        return drawn.cpu()

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def _thicker(hole: Hole, share: float) -> Hole:
    """Returns the parts of a hole that are thicker than this share of the picture's shorter side."""
    return edges.thick_parts(hole, round(share * min(hole.shape) / 2))
