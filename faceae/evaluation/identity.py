"""Whether the person stays the person: compares faces before and after a restoration, with the extra faceae[identity].

dlib's network (King, High Quality Face Recognition with Deep Metric Learning, 2017) maps a face to 128 numbers. Two
pictures whose numbers are less than `SAME` apart are taken for the same person: right for 99.38 % of LFW's pairs,
its author says. FFHQ's licence asks not to use it for face recognition.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
from PIL import Image

from faceae.errors import InputError
from faceae.evaluation.picture_metrics import Pixels

SAME = 0.6
"""Distance below which two faces are taken for the same person's; the threshold of dlib's author."""

DISTANCE = "identity_distance"
"""The distance of a restored face from the original; NaN if no face was found in the original."""

_SIDE = 256  # shorter side in pixels at which faces are looked for; dlib's detector finds those of 80 pixels and more


def check_installed() -> None:
    """Raises InputError unless the extra is installed."""
    if not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")):
        raise InputError("--identity: needs dlib and its models; pip install 'faceae[identity]'")


class Identity:
    """Measures how far restored faces are from the originals. Not thread-safe."""

    def __init__(self) -> None:
        """Loads the models, 32 MB, from the package face_recognition_models."""
        import dlib

        spec = importlib.util.find_spec("face_recognition_models")  # to import it takes setuptools' pkg_resources
        assert spec
        assert spec.origin
        models = Path(spec.origin).with_name("models")
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self.network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def distance(self, original: Pixels, restored: Pixels) -> float:
        """Returns the distance between the largest face of a picture and what is in its place in another.

        Args:
            original: (H, W, 3) uint8.
            restored: of the same size.

        Returns:
            At least 0, mostly below 1.5; NaN if no face is found in the original.
        """
        scale = _SIDE / min(original.shape[:2])
        size = round(scale * original.shape[1]), round(scale * original.shape[0])
        seen = [
            np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BICUBIC)) for each in (original, restored)
        ]
        found = self.detector(seen[0])
        if not found:
            return math.nan
        place = max(found, key=lambda face: face.area())
        before, after = (
            np.array(self.network.compute_face_descriptor(each, self.landmarks(each, place))) for each in seen
        )
        return float(np.linalg.norm(before - after))
