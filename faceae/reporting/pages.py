"""Self-contained HTML pages."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import jinja2

from faceae import config, storage
from faceae.config import JobSettings, Mask, Settings
from faceae.console import clock


def write_page(
    uri: str,
    template: str,
    pictures: Mapping[str, bytes],
    settings: JobSettings,
    **content: Any,  # noqa: ANN401
) -> None:
    """Writes a self-contained index.html, and its PNG images as separate files, too.

    Args:
        uri: the report's folder.
        template: the template's file name; in it, `pictures` holds the PNG images by name, in base64.
        pictures: PNG images by name.
        settings: the settings, available to the template in full.
        **content: further variables of the template.
    """
    for name, picture in pictures.items():
        storage.write(storage.join(uri, f"{name}.png"), picture)
    html = render(
        template,
        settings=settings,
        flat=config.flat(config.to_dict(settings)),
        clock=clock,
        damage=damage,
        pictures={name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
        **content,
    )
    storage.write(storage.join(uri, "index.html"), html)


def render(template: str, **content: Any) -> bytes:  # noqa: ANN401
    """Returns the page that a template makes of its variables."""
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("faceae.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return pages.get_template(template).render(**content).encode()


def damage(settings: Settings) -> str:
    """Describes what is done to faces, in words that follow "faces": "with a hole of 28×28", "in grey"."""
    if len(settings.task) > 1:
        return ", or ".join(damage(dataclasses.replace(settings, task=(task,))) for task in settings.task)
    match settings.task[0]:
        case "inpaint":
            return f"with {hidden(settings.mask)}"
        case "denoise":
            least, most = settings.noise.sigmas
            level = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            return f"with Gaussian noise of a standard deviation of {level} levels of 255"
        case "colorize":
            return "in grey, to be coloured"
        case "upscale":
            small = settings.data.image_size // settings.upscale.factor
            return f"given as {small}×{small}"
        case "repair":
            return "with a patch of what does not belong there"
        case "reconstruct":
            return f"to be rebuilt from {settings.model.latent_dim} numbers"


def hidden(mask: Mask) -> str:
    """Describes what the masks hide, in words that follow "faces with": "a hole of 28×28", "a missing half"."""
    least, most = mask.sizes
    pixels = f"{most}" if least == most else f"{least} to {most}"
    box = f"{most}×{most}" if least == most else f"{pixels} pixels square"
    words = {
        "box": f"{mask.count} holes of {box}" if mask.count > 1 else f"a hole of {box}",
        "strokes": "brush strokes over them",
        "half": "a missing half",
        "border": f"a missing border of {pixels} pixels",
        "image": "holes of given shapes",
    }
    *others, last = [words[kind] for kind in dict.fromkeys(mask.kind)]
    return f"{', '.join(others)} or {last}" if others else last
