"""The settings: flags, presets, saved configurations, and what is refused."""

import contextlib
import dataclasses
import io
import json

import pytest

from faceae import cli, config
from faceae.config import Settings, presets
from faceae.config.presets import PRESETS
from faceae.errors import InputError
from faceae.run_folder import RunFolder


def parse(*arguments: str, kind=Settings):
    return cli.parse(arguments, kind)


def test_flags_override_the_preset_wherever_it_stands():
    settings = parse("--optim.lr", "0.01", "--preset", "article", "--data.source", "a", "b", "--run.resume")
    assert settings.preset == "article"
    assert settings.optim.lr == 0.01
    assert settings.train.epochs == 15
    assert settings.data.source == ("a", "b")
    assert settings.run.resume


def test_the_article_preset_has_the_settings_of_the_article():
    settings = parse("--preset=article")
    assert (settings.model.latent_dim, settings.train.batch_size, settings.mask.size) == (300, 64, 28)
    assert (settings.optim.name, settings.optim.lr, settings.train.loss) == ("adam", 0.001, "mse")


def test_the_demo_is_the_default():
    assert parse() == Settings() == presets.find("demo", Settings)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    kind = type(PRESETS[name])
    settings = presets.find(name, kind)
    assert settings.preset == name
    assert config.from_dict(json.loads(json.dumps(config.to_dict(settings))), kind) == settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bogus", "3"], "--bogus"),
        (["--preset", "nope"], "--preset 'nope'"),
        (["--data.limit", "0"], "--data.limit 0"),
        (["--data.limit", "many"], "--data.limit"),
        (["--data.val-fraction", "1.5"], "--data.val-fraction 1.5"),
        (["--data.image-size", "100"], "--data.image-size 100"),
        (["--mask.size", "129"], "--mask.size 129"),
        (["--mask.size", "129", "--mask.kind", "strokes"], "--mask.size 129: a stroke of 129 pixels is too large"),
        (["--mask.size", "9" * 5000], "--mask.size 9999"),
        (["--optim.name", "lion"], "lion"),
        (["--optim.lr", "nan"], "--optim.lr"),
        (["--train.batch-size", "3", "--scale.workers", "4"], "--train.batch-size 3"),
        (["--scale.workers", "many"], "--scale.workers many: write a number of workers, or MIN:MAX"),
        (["--scale.workers", "0"], "--scale.workers 0: write a number"),
        (["--scale.workers", "8:2"], "--scale.workers 8:2: write the smaller number first, as in 2:8"),
        (["--train.batch-size", "4", "--scale.workers", "2:8"], "smaller than the 8 workers"),
        (["--preset", "restore-sharp", "--train.loss", "psnr"], "the second loss of --train.sharpen"),
        (["--preset", "repair", "--train.loss", "psnr"], "the second loss of --task repair"),
        (
            ["--model.name", "vae", "--task", "reconstruct", "--train.loss", "psnr"],
            "the second loss of --model.name vae",
        ),
        (["--run.name", "../elsewhere"], "--run.name"),
        (["--train.epochs"], "--train.epochs"),
        (["--preset"], "--preset"),
        (["--preset", "article-grid"], "choose from demo, article"),
        (["--scale.gpus-per-worker", "0.5", "--scale.workers", "2"], "--scale.gpus-per-worker 0.5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_gives_a_one_line_error_that_names_it(arguments, words):
    with pytest.raises(InputError) as error:
        parse(*arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "│" not in str(error.value)


def test_a_wrong_flag_gives_the_same_line_where_the_terminal_is_not_utf8():
    for encoding in ("utf-8", "ascii"):
        stdout = contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding))
        with stdout, pytest.raises(InputError, match=r"^Unrecognized options: --bogus, 3; --help lists the flags$"):
            parse("--bogus", "3")


@pytest.mark.parametrize(
    ("unknown", "near"),
    [
        ("--optim.rate", r"--optim\.name --optim\.lr --optim\.schedule --optim\.warmup --optim\.average"),
        ("--epochs", r"--train\.epochs"),
        ("--data.sorce", r"--data\.source"),
        ("--trian.epochs", r"--train\.epochs"),
        ("--latent_dim", r"--model\.latent-dim"),
    ],
)
def test_a_flag_that_does_not_exist_is_answered_with_those_that_are_near(unknown, near):
    with pytest.raises(
        InputError, match=rf"^Unrecognized options: {unknown}, 1; near it: {near}; --help lists the flags$"
    ):
        parse(unknown, "1")


def test_an_unknown_key_in_a_saved_config_is_an_error():
    tree = config.to_dict(Settings())
    tree["optim"]["momentun"] = 0.9
    with pytest.raises(InputError, match=r"--optim\.momentun"):
        config.from_dict(tree, Settings)


def test_settings_made_in_python_are_checked_too():
    wrong = dataclasses.replace(Settings(), mask=config.Mask(size=-1))
    with pytest.raises(InputError, match=r"--mask\.size -1"):
        config.validate(wrong)


def test_every_field_is_explained_in_help(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for group, fields in config.to_dict(Settings()).items():
        for field in fields if isinstance(fields, dict) else ():
            assert config.flag(group, field) in shown


def test_settings_survive_a_round_trip_through_flags():
    settings = parse(
        *["--data.source", "a b", "c", "--optim.lr", "0.02", "--train.loss", "l1", "--train.max-minutes", "2"],
        *["--scale.workers", "2", "--run.resume", "--run.name", "x"],
    )
    assert parse(*config.flags(settings)) == settings


def test_a_run_can_be_resumed_repeatedly(tmp_path):
    again = ["--run.name", "x", "--run.storage", str(tmp_path), "--run.resume"]
    RunFolder(parse(*again, "--optim.lr", "0.02")).open()
    for _ in range(2):
        settings = parse(*again)
        assert settings.optim.lr == 0.02
        assert RunFolder(settings).open()


@pytest.mark.parametrize("junk", ["", "{", "[]", "3", "null", '"text"', '{"run": 3}', '{"more": 1}', "[" * 100_000])
def test_junk_in_the_config_of_a_run_to_resume_is_one_line(tmp_path, junk):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text(junk)
    with pytest.raises(InputError, match=r"^--run\.name x: .*config\.json (is damaged|was written by another)"):
        parse("--run.name", "x", "--run.storage", str(tmp_path), "--run.resume")


@pytest.mark.parametrize(("workers", "bounds"), [(None, None), (3, (3, 3)), ("3", (3, 3)), ("2:8", (2, 8))])
def test_workers_are_a_number_or_a_range(workers, bounds):
    assert config.validate(Settings(scale=config.Scale(workers=workers))).scale.bounds == bounds
