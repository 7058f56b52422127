"""Evaluations: exact means, every image once, wrong input. For a run's own validation set, see test_train."""

import json
import shutil
import sys

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pages import assert_self_contained
from pictures import png
from PIL import Image
from runs import small

import faceae
from faceae import cli, config, metrics, models, storage
from faceae.config import Mask
from faceae.config.jobs import EvaluateData, EvaluateOutput, EvaluateSettings, MaskOverride, ReplicaScale
from faceae.data import frozen_masks
from faceae.data.cache import decode
from faceae.data.epoch_masks import draw_with_pixels
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.data.validation import VALIDATION, validation_batches
from faceae.drivers.evaluate import evaluate
from faceae.errors import InputError
from faceae.evaluation import baselines, picture_metrics
from faceae.tasks import Inpaint
from faceae.training import engine

CPU = torch.device("cpu")
KINDS = MaskOverride(kind=("box", "strokes", "half"), size="4:12")


@pytest.fixture(scope="module")
def model(faces, tmp_path_factory):
    """A model with random weights, and the settings that a run on the portraits would have saved with it."""
    root = tmp_path_factory.mktemp("run")
    settings = small(faces, root, "run")
    torch.manual_seed(0)
    models.save(str(root / "run" / "model"), models.build(settings), settings)
    return settings, root / "run" / "model"


def run_evaluation(model, source, out, name="e", mask=MaskOverride(), resume=False, own_size=False, **data):  # noqa: B008
    """Evaluates with the tests' Ray; returns the summary and the folder."""
    settings = EvaluateSettings(
        str(model),
        EvaluateData((str(source),), **data),
        mask,
        batch_size=7,
        own_size=own_size,
        scale=ReplicaScale(gpu="off"),
        run=EvaluateOutput(storage=str(out), name=name, resume=resume),
    )
    return evaluate(settings), out / name


@pytest.fixture(scope="module")
def mixed(ray_cluster, model, faces, tmp_path_factory):
    """An evaluation of all portraits and two unusable files, with holes of several kinds."""
    source = tmp_path_factory.mktemp("mixed")
    for path in faces.rglob("*.png"):
        (source / path.name).write_bytes(path.read_bytes())
    (source / "bad.png").write_bytes(b"not an image")
    (source / "._face1.png").write_bytes(b"attributes")
    out = tmp_path_factory.mktemp("out")
    return (*run_evaluation(model[1], source, out, mask=KINDS, max_rejected_fraction=0.02), str(source))


def rows_of(folder):
    return pq.read_table(folder / "images.parquet")


def test_the_means_are_those_of_training(mixed, model):
    """Training validates on another path: with other blocks, other batches and other processes."""
    summary, _, source = mixed
    mask = Mask(kind=("box", "strokes", "half"), size="4:12")
    assert summary["mask"] == json.loads(json.dumps(config.to_dict(mask)))
    val, _ = decode(
        list_sources([source], "--data.source").entries,
        32,
        lambda images: None,
        draw_with_pixels(VALIDATION, Inpaint(mask, 32)),
    )
    network = faceae.load(str(model[1]))
    sums = engine.evaluate(
        network, validation_batches(val, Inpaint(mask, 32), 16), device=CPU, bf16=engine.in_bf16("auto", CPU)
    )
    assert sums.count == summary["counts"]["val"] == 96
    assert summary["val"] == pytest.approx(sums.means(), rel=1e-4)
    for name, baseline in baselines.measure(validation_batches(val, Inpaint(mask, 32), 16)).items():
        assert summary["baselines"][name] == pytest.approx(baseline.means(), rel=1e-6)


def test_every_image_has_a_row_and_the_rows_have_the_reported_means(mixed):
    summary, folder, _ = mixed
    table = rows_of(folder)
    figures = [*metrics.NAMES, *(f"{name}_{metric}" for name in baselines.available() for metric in metrics.NAMES)]
    about = ["image_id", "kind", "size", "score", "height", "width", "hole_pixels"]
    assert table.column_names == [*about, *figures[8:], *figures[:8]]
    assert len(set(table["image_id"].to_pylist())) == len(table) == 96
    assert {name for name in table.column_names if table[name].null_count} == {"size"}  # halves have none
    assert table["score"] == table["mse"]
    for name in metrics.NAMES:
        assert np.mean(table[name].to_pylist()) == pytest.approx(summary["val"][name], rel=1e-12)
    half = [row for row in table.to_pylist() if row["kind"] == "half"]
    assert {row["hole_pixels"] for row in half} == {512}
    shown = summary["by_kind"]["half"]
    assert shown["images"] == len(half)
    assert shown["val"]["hole_mse"] == pytest.approx(np.mean([row["hole_mse"] for row in half]), rel=1e-12)
    for divided in (summary["by_kind"], summary["by_hole_size"]):
        assert sum(group["images"] for group in divided.values()) == 96
        whole = sum(group["images"] * group["baselines"]["mean"]["mse"] for group in divided.values()) / 96
        assert whole == pytest.approx(summary["baselines"]["mean"]["mse"], rel=1e-12)
    assert summary["score"]["percentiles"]["50"] == pytest.approx(np.median(table["mse"].to_pylist()))


def test_an_evaluation_writes_what_a_run_writes(mixed, tmp_path):
    summary, folder, _ = mixed
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["counts"] == {"read": 98, "rejected": 2, "val": 96}
    assert [row["image_id"] for row in storage.read_lines(f"{folder}/rejected.jsonl")] == ["._face1.png", "bad.png"]
    page = (folder / "report" / "index.html").read_text()
    assert_self_contained(page, tmp_path, 4)
    ranked = rows_of(folder).sort_by([("hole_mse", "descending")])["image_id"].to_pylist()
    worst, best = page.index("<h2>The worst"), page.index("<h2>The best")
    assert (
        worst < page.index(f"<code>{ranked[0]}</code>", worst) < best < page.index(f"<code>{ranked[-1]}</code>", best)
    )
    for name in ("sample", "worst", "best"):
        assert Image.open(folder / "report" / f"{name}.png").height == 4 * 32


def test_the_masks_that_were_used_are_written_and_give_the_same_result_again(mixed, model):
    summary, folder, source = mixed
    written = pq.read_table(folder / "masks.parquet")
    ids = rows_of(folder)["image_id"].to_pylist()
    drawn = Inpaint(Mask(kind=KINDS.kind, size=KINDS.size), 32).draw_validation(ids)
    assert written["image_id"].to_pylist() == ids
    assert written["bits"].to_pylist() == [bits.tobytes() for bits in drawn]
    assert summary["masks"] == {"sha256": frozen_masks.digest(frozen_masks.read(f"{folder}/masks.parquet")), "rows": 96}
    # The two files that cannot be used have no masks, so that they are left out.
    again, other = run_evaluation(
        model[1], source, folder.parent, "again", MaskOverride(file=f"{folder}/masks.parquet"), max_rejected_fraction=0
    )
    assert rows_of(other).equals(rows_of(folder))
    assert (other / "masks.parquet").read_bytes() == (folder / "masks.parquet").read_bytes()
    for same in ("masks", "val", "baselines", "by_kind", "by_hole_size"):
        assert again[same] == summary[same]


@pytest.fixture(scope="module")
def at_own_size(ray_cluster, model, tmp_path_factory):
    """An evaluation of pictures of several sizes, the smallest of which is too small for one of the holes."""
    source = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate([(60, 48), (200, 160), (33, 90)]):
        picture = Image.fromarray(portrait(number, 64)).resize(size)
        (source / f"{number}.png").write_bytes(png(picture))
    (source / "bad.png").write_bytes(b"no picture")
    holes = MaskOverride(holes=("box:20", "strokes:4", "box:6:3"))
    out = tmp_path_factory.mktemp("out")
    return (*run_evaluation(model[1], source, out, mask=holes, own_size=True, max_rejected_fraction=0.3), source)


def test_pictures_are_restored_and_measured_at_their_own_size(at_own_size, model, tmp_path):
    summary, folder, source = at_own_size
    rows = rows_of(folder).to_pylist()
    assert [(row["image_id"], row["kind"], row["size"], row["width"], row["height"]) for row in rows] == [
        (name, *hole, *size)
        for name, size in (("0.png", (60, 48)), ("1.png", (200, 160)), ("2.png", (33, 90)))
        for hole in (("box", 20), ("strokes", 4), ("3 boxes", 6))
        if (name, hole) != ("2.png", ("box", 20))
    ]
    assert summary["counts"] == {"read": 4, "rejected": 1, "val": 3}
    assert list(summary["by_hole"]) == ["box 20 px", "strokes 4 px", "3 boxes 6 px"]
    assert [group["images"] for group in summary["by_hole"].values()] == [2, 3, 3]
    restorer = faceae.load(str(model[1]))
    for row, mask in zip(rows, frozen_masks.read(f"{folder}/masks.parquet").to_pylist(), strict=True):
        picture, hole = np.asarray(Image.open(source / row["image_id"])), frozen_masks.unpacked(mask)
        (made,) = restorer.restore([picture], [hole])
        error = np.square(made[hole].astype(float) - picture[hole]).mean() / 255**2
        assert row["hole_mse"] == pytest.approx(error)
        assert row["edge_step"] == picture_metrics.edge_step(made, hole)
        assert row["original_edge_step"] == picture_metrics.edge_step(picture, hole)
    best = summary["by_hole"]["strokes 4 px"]["best_baseline"]
    strokes = [row for row in rows if row["kind"] == "strokes"]
    worse = np.mean([row["hole_mse"] > row[f"{best}_hole_mse"] for row in strokes])
    assert summary["by_hole"]["strokes 4 px"]["worse_share"] == worse
    lines = (folder / "report" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines] == [
        "| hole",
        "| ---",
        *(f"| {hole}" for hole in summary["by_hole"]),
    ]
    assert_self_contained((folder / "report" / "index.html").read_text(), tmp_path, 4)


def test_what_another_program_restored_is_scored_as_a_baseline_is(at_own_size, model, tmp_path):
    """The program is OpenCV, so that the result is that of the baseline telea; a known pixel has changed, too."""
    summary, folder, source = at_own_size
    for row in pq.read_table(folder / "masks.parquet").to_pylist():
        size = row["height"], row["width"]
        bits = np.frombuffer(row["bits"], np.uint8)
        hole = np.unpackbits(bits, count=size[0] * size[1], bitorder="little").reshape(size)
        given = np.where(hole[..., None], np.uint8(0), Image.open(source / row["image_id"]))
        made = cv2.inpaint(given, hole, 3, cv2.INPAINT_TELEA)
        made[tuple(np.argwhere(hole == 0)[0])] ^= 7
        name = f"{row['kind']}-{row['size']}".replace(" ", "-")
        storage.write(f"{tmp_path}/made/{name}/{row['image_id']}", png(Image.fromarray(made)))
    masks = MaskOverride(file=f"{folder}/masks.parquet")
    scored, own = run_evaluation(tmp_path / "made", source, tmp_path, mask=masks, own_size=True)
    assert scored["masks"] == summary["masks"]
    assert scored["counts"] == {"read": 3, "rejected": 0, "val": 3}
    assert scored["val"] == pytest.approx(summary["baselines"]["telea"], rel=1e-6)
    assert scored["baselines"] == summary["baselines"]
    assert (scored["known_pixels"]["changed"], scored["known_pixels"]["max_change"]) == (8, 7)
    assert "Known pixels differ in 8 of 8" in (own / "report" / "index.html").read_text()


def test_a_finished_evaluation_is_shown_again(mixed, model, capsys):
    summary, folder, source = mixed
    with pytest.raises(InputError, match=r"--run\.name e: a run of this name already exists"):
        run_evaluation(model[1], source, folder.parent, mask=KINDS)
    again, _ = run_evaluation(model[1], source, folder.parent, mask=KINDS, resume=True)
    assert again == summary
    assert "is finished" in capsys.readouterr().out


OLD = b'{"val": {}, "baselines": {}, "by_kind": {}, "by_hole_size": {}}'


@pytest.mark.parametrize("junk", [b"{", b"[]", b"{}", b"\xff", OLD])
def test_a_damaged_or_old_summary_is_an_error_of_one_line(mixed, model, tmp_path, junk):
    _, folder, source = mixed
    shutil.copytree(folder, tmp_path / "e")
    (tmp_path / "e" / "summary.json").write_bytes(junk)
    with pytest.raises(InputError, match=r"summary\.json: is damaged.*; delete it, and --run\.resume evaluates again$"):
        run_evaluation(model[1], source, tmp_path, mask=KINDS, resume=True)


@pytest.mark.parametrize(
    ("data", "mask", "words"),
    [
        ({"source": "{faces}/nothing"}, {}, r"SOURCE .*nothing: it does not exist"),
        ({"model": "{run}/nothing"}, {}, r"MODEL .*nothing: it does not exist"),
        ({"model": "{run}"}, {}, r"MODEL .*: this is a run's folder; name the model in it, .*/run/model"),
        ({}, {"size": 64}, r"--mask\.size 64: a box of 64 pixels is too large for the 32x32"),
        ({}, {"kind": ("image",)}, r"--mask\.images: give the masks together with --mask\.kind image"),
        ({"source": "{faces}/0", "subset": "val"}, {}, r"SOURCE .*: the model's run kept none of these images"),
        ({"max_rejected_fraction": 0.0, "source": "{bad}"}, {}, r"SOURCE: 1 of 2 images cannot be used, more than"),
    ],
)
def test_wrong_input_gives_a_one_line_error_and_frees_the_name(ray_cluster, model, faces, tmp_path, data, mask, words):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"")
    (tmp_path / "bad" / "1.png").write_bytes(png(Image.new("RGB", (32, 32))))
    places = {"faces": faces, "run": model[1].parent, "bad": tmp_path / "bad"}
    given = {key: value.format(**places) if isinstance(value, str) else value for key, value in data.items()}
    uri = given.pop("model", model[1])
    source = given.pop("source", str(faces))
    with pytest.raises(InputError, match=words) as error:
        run_evaluation(uri, source, tmp_path, mask=MaskOverride(**mask), **given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "e" / "config.json").exists()
    assert not (tmp_path / "e").exists() or "bad" in source


def test_the_validation_set_is_recognized_by_ids_and_a_validation_source_by_its_uri(model, faces, tmp_path):
    from faceae.data.split import Split
    from faceae.drivers.evaluation_plan import listed

    trained = model[0].data
    kept = {entry.image_id for entry in Split(trained).val}
    for path in faces.rglob("*.png"):
        storage.write(str(tmp_path / path.relative_to(faces)), path.read_bytes())
    storage.write(str(tmp_path / "other.png"), b"")
    settings = EvaluateSettings("m", EvaluateData((str(tmp_path),), subset="val"))
    assert {entry.image_id for entry in listed(settings, trained).entries} == kept
    own = config.Data(source=trained.source, val_source=(f"{faces}/0",), image_size=32)
    with pytest.raises(InputError, match=r"--data\.subset val: the model's run validated on .*/0; name that as SOURCE"):
        listed(settings, own)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "MODEL: no model is given"),
        (["out/run/model"], "SOURCE: no source is given"),
        (["m", "s", "--mask.kind", "circle"], "invalid choice 'circle'"),
        (["m", "s", "--data.limit", "0"], "--data.limit 0"),
        (["m", "s", "--mask.holes", "box:30"], "--mask.holes: is for pictures at their own size; add --own-size"),
        (["m", "s", "--own-size", "--mask.holes", "box:0"], "--mask.holes 'box:0': write box:SIZE, box:SIZE:COUNT or"),
        (["m", "s", "--own-size", "--mask.size", "9"], "--mask.size: is for masks of the model's size"),
        (["m", "s", "--mask.file", "f", "--mask.kind", "box"], "--mask.file: the file says which images to measure"),
        (["m", "s", "--mask.file", "f", "--data.limit", "9"], "--mask.file: the file says which images to measure"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jobs/evaluate.py", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.run_job("evaluate")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_masks_are_those_of_the_model_unless_overridden():
    mask = Mask(kind=("image",), images="shapes", size=20)
    assert MaskOverride().applied_to(mask) == mask
    assert MaskOverride(kind=("box",), count=2).applied_to(mask) == Mask(kind=("box",), size=20, count=2)
    assert MaskOverride(size="4:8").applied_to(Mask()) == Mask(size="4:8")
