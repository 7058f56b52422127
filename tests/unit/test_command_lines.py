"""Wrong command lines: each ends with exit code 2 and one line that names the flag and repeats no secret."""

import contextlib
import io
import os
import pkgutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceae import cli, config
from faceae.commands import COMMANDS

PLACES = {
    "evaluate": ["m", "pictures"],
    "embed": ["m", "pictures"],
    "reconstruct": ["m", "pictures", "restored"],
    "restore": ["a.png", "b.png"],
    "serve": ["m"],
}
"""The positional arguments of each job that has some."""

INSTEAD = {"tune": "faceae.config.points:checked"}
"""What is called in place of a job's driver: all that a driver does before it looks at a file or at Ray."""


def run(job, arguments):
    """The exit code of a job, and the lines that it printed."""
    said = io.StringIO()
    command = COMMANDS[job]._replace(driver=INSTEAD.get(job, "builtins:id"))
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = cli._exit_code(command, arguments, None)
    return code, said.getvalue().splitlines()


def leaves(job):
    return config.flat(config.to_dict(pkgutil.resolve_name(COMMANDS[job].settings)()))


FLAGS = {
    job: [
        config.flag(path)
        for path in leaves(job)
        if path not in ("model", "source", "dest", "data.source", "picture", "out")
    ]
    + ([] if job in PLACES else ["--data.source"])
    for job in COMMANDS
}
NUMBERS = [
    path for path, value in leaves("train").items() if isinstance(value, int | float) and value not in (True, False)
]
NUMBERS += ["mask.size", "scale.workers", "data.limit", "train.max_minutes", "scale.gpus_per_worker", "train.seed"]
CHOICES = ["mask.kind", "model.name", "optim.name", "optim.schedule", "train.loss", "train.augment", "train.best_by"]
CHOICES += ["train.precision", "scale.gpu", "run.track", "preset"]
URIS = [
    ("train", "--data.source"),
    ("train", "--data.val-source"),
    ("train", "--run.storage"),
    ("train", "--mask.images"),
]
URIS += [("evaluate", "MODEL"), ("evaluate", "SOURCE"), ("evaluate", "--mask.images"), ("reconstruct", "MODEL")]
URIS += [("embed", "MODEL"), ("embed", "SOURCE"), ("embed", "--queries")]
URIS += [("reconstruct", "SOURCE"), ("reconstruct", "DEST"), ("reconstruct", "--masks"), ("prepare", "--data.source")]

NO_NUMBERS = ["", "x", "-1", "inf", "9" * 5000, "\x1b[31m\n"]
NO_NAMES = [
    "",
    "..",
    "../up",
    "a/b",
    "-dash",
    ".hidden",
    "a b",
    "a\nb",
    "\x1b[31m",
    "\udcff",
    "名前",
    "x" * 300,
    "s3://b",
]
NO_URIS = ["", " ", "s3:/bucket", "a\nb", "a\x00b", "\x1b[31m", "\udcff", "s3://KEY:HIDDEN@b/x", "s3://KEY:HID/DEN@b"]
NO_URIS += [
    "s3:b",
    "s3://",
    "file:/x",
    "s3://b/x?access_key=KEY&secret_key=HIDDEN",
    "http://HIDDEN@host/x",
    "hf://user:HIDDEN@datasets/x",
]


def assert_refused(job, arguments, name):
    code, lines = run(job, arguments)
    assert (code, len(lines)) == (2, 1), lines
    assert name in lines[0]
    assert lines[0].isprintable() or "\udcff" in lines[0]
    assert not any(word in lines[0] for word in ("HIDDEN", "HID/DEN", "Traceback"))
    assert len(lines[0]) < 1000


@pytest.mark.parametrize("path", NUMBERS)
def test_what_is_no_number_or_out_of_range(path):
    for value in NO_NUMBERS:
        assert_refused("train", [f"{config.flag(path)}={value}"], config.flag(path))


@pytest.mark.parametrize("path", CHOICES)
def test_what_is_no_choice(path):
    for value in ("", "x", "ADAM", "a\nb", "x" * 300):
        assert_refused("train", [f"{config.flag(path)}={value}"], config.flag(path))


@pytest.mark.parametrize("value", NO_NAMES, ids=ascii)
def test_what_is_no_name_of_a_run(value):
    for resume in ([], ["--run.resume"]):
        assert_refused("train", [f"--run.name={value}", *resume], "--run.name")


@pytest.mark.parametrize(("job", "name"), URIS)
def test_what_is_no_uri(job, name):
    places = PLACES.get(job, [])
    names = ("MODEL", "SOURCE", "DEST")[: len(places)]
    for value in NO_URIS:
        given = [value if each == name else place for each, place in zip(names, places, strict=True)]
        assert_refused(job, given + ([] if name in names else [f"{name}={value}"]), name)


@pytest.mark.parametrize(
    ("job", "arguments", "words"),
    [
        ("train", ["--nonsense"], "--nonsense"),
        ("train", ["--data.sorce", f"s3://KEY{'x' * 80}:HIDDEN@b"], "credentials"),
        ("train", ["stray"], "stray"),
        ("train", ["--train.epochs", "1", "2"], "2"),
        ("train", ["--data.source"], "no source is given"),
        ("train", ["--mask.kind", "strokes", "--mask.size", "99999"], "--mask.size 99999"),
        ("train", ["--model.name", "unet", "--model.levels", "5", "--model.window", "72"], "multiple of 32"),
        ("train", ["--mask.count", "1000000"], "--mask.count 1000000: Input should be less than or equal to 1000"),
        ("evaluate", [], "MODEL: no model"),
        ("embed", [], "MODEL: no model"),
        ("embed", ["m"], "SOURCE: no source"),
        ("embed", ["m", "x", "--queries", "y"], "--neighbours 5"),
        ("embed", ["m", "x", "--neighbours", "-1"], "--neighbours"),
        ("evaluate", ["m"], "SOURCE: no source"),
        ("evaluate", ["m", "x", "--mask.count", "1000000"], "--mask.count"),
        ("reconstruct", ["m", "x"], "DEST: no place"),
        ("prepare", ["--shard.megabytes", "1e-300"], "--shard.megabytes"),
        ("tune", ["--tune.concurrent", "x"], "no type matching {auto}|INT could be instantiated from ['x']; --help"),
        ("tune", ["--tune.concurrent", "0"], "--tune.concurrent 0: Input should be 'auto' or greater than 0"),
        ("tune", ["--scale.workers", "1:2"], "--scale.workers 1:2: the trials of a grid have a fixed number"),
        ("tune", ["--grid.train.seed", *map(str, range(300))], "--grid: 1200 trials, and a grid has at most 1000"),
        ("tune", ["--grid.points", ""], "--grid.points"),
        ("tune", ["--grid.points", "optim.lr=1,optim.lr=\x1b"], "--optim.lr"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_contradicts_or_is_too_much(job, arguments, words):
    if job == "tune" and "--grid.points" in arguments:
        arguments = ["--preset", "article", *arguments]
    assert_refused(job, arguments, words)


values = st.sampled_from([*NO_NUMBERS, *NO_NAMES, *NO_URIS, "1", "0.5", "2:8", "box", "adam", "[/x]", "optim.lr=1"])
lines = st.sampled_from(list(FLAGS)).flatmap(
    lambda job: st.tuples(
        st.just(job),
        st.lists(st.tuples(st.sampled_from(FLAGS[job]), values | st.text(max_size=20)), min_size=1, max_size=3),
    )
)


@given(lines)
@settings(deadline=None)
def test_any_values_of_any_flags_are_right_or_refused_in_one_line(line):
    job, chosen = line
    code, said = run(job, [*PLACES.get(job, []), *(f"{flag}={value}" for flag, value in chosen)])
    assert (code, len(said)) in {(0, 0), (2, 1)}, said


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--run.storage", "s3://KEY:HIDDEN@b"],
        ["no\njob"],
        ["train", "--data.source", b"/\xe9"],
        ["train", "--data.limit", "x"],
        ["train", "--mask.kind", "image", "--mask.images", "/no/masks"],
    ],
    ids=["credentials", "no job", "not UTF-8", "no number", "masks"],
)
def test_the_command_itself(arguments, tmp_path):
    command = [sys.executable, "-m", "faceae", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "HIDDEN" not in done.stderr
    assert "---" not in done.stderr
    assert not list(tmp_path.iterdir())
