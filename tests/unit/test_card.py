"""Model cards: facts of the run, and words for people who get the model from somebody else."""

import dataclasses

import yaml

from faceae.config import Data, Settings, presets
from faceae.metrics import NAMES
from faceae.reporting import card

SUMMARY = {
    "run": "faces",
    "task": "inpaint",
    "epochs": 9,
    "best_epoch": 8,
    "val": dict.fromkeys(NAMES, 0.25),
    "baselines": {"telea": dict.fromkeys(NAMES, 0.5)},
    "best_baseline": "telea",
    "of_best": 0.5,
    "compared": {"images": 40, "of": 40, "val": {}},
    "counts": {"train": 360, "val": 40},
    "synthetic": False,
    "train_seconds": 754.0,
    "workers": 2,
    "device": "cpu",
}


def written(tmp_path, settings, **changes) -> str:
    card.write(str(tmp_path), settings, SUMMARY | changes)
    return (tmp_path / "README.md").read_text()


def test_a_card_has_a_head_for_the_hub_and_the_facts_of_the_run(tmp_path):
    settings = dataclasses.replace(presets.find("restore", Settings), data=Data(source=("s3://bucket/<faces>",)))
    text = written(tmp_path, settings)
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-to-image"
    assert "# faces\n" in body
    assert "0.50 times the error of the best of them, telea" in body
    assert "| telea | 0.5000 | 0.5000 |" in body
    assert "`s3://bucket/<faces>`, in 9 epochs and 12:34 min on\n2 workers (cpu)" in body  # no HTML escapes
    assert "--data.source 's3://bucket/<faces>'" in body
    assert "licence of these images" in body
    assert "synthetic" not in body


def test_a_card_of_drawn_portraits_says_so(tmp_path):
    text = written(tmp_path, Settings(), synthetic=True)
    assert "synthetic portraits, not photographs" in text
    assert "licence of these images" not in text


def test_a_card_of_a_sharp_model_says_that_it_errs_more(tmp_path):
    assert "sharper, and errs more" in written(tmp_path, presets.find("restore-sharp", Settings))
