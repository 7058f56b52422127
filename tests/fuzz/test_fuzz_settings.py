"""Settings: every tree and every command line gives settings that survive JSON, or an error of one line."""

import contextlib
import io
import json

import pytest
from fuzzing import changed, contract, examples, mutated, texts, trees
from hypothesis import given
from hypothesis import strategies as st

from faceae import cli, config
from faceae.config import Run, Settings
from faceae.config.grid import GridSettings
from faceae.config.jobs import EvaluateSettings, PrepareSettings
from faceae.config.points import checked
from faceae.config.restore import ReconstructSettings
from faceae.errors import InputError
from faceae.run_folder import saved_settings

KINDS = [Settings, GridSettings, PrepareSettings, EvaluateSettings, ReconstructSettings]
WHOLE = {kind: json.loads(json.dumps(config.to_dict(kind()))) for kind in KINDS}


@examples(few=200, many=4000)
@given(st.sampled_from(KINDS), st.data())
def test_every_tree_gives_settings_or_an_error(kind, data):
    tree = data.draw(st.one_of(changed(WHOLE[kind]), changed(WHOLE[kind]), trees))
    with contract(InputError):
        settings = config.from_dict(tree, kind)
        assert config.from_dict(json.loads(json.dumps(config.to_dict(settings))), kind) == settings
        if kind is GridSettings:
            with contract(InputError):
                checked(settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "x").mkdir()
    return folder / "x"


@examples(few=60, many=1000)
@given(mutated([json.dumps(WHOLE[Settings]).encode()]))
def test_a_run_with_any_config_is_continued_or_refused(run, content):
    (run / "config.json").write_bytes(content)
    with contract(InputError):
        saved = saved_settings(Settings(run=Run(storage=str(run.parent), name=run.name)))
        assert config.validate(saved) == saved


FLAGS = {kind: [config.flag(*path.split(".")) for path in config.flat(tree)] for kind, tree in WHOLE.items()}
RESUMES = {"--run.resume", "--run.storage", "--run.name"}  # they read a run's folder


@st.composite
def command_lines(draw, kind):
    flags = [flag for flag in FLAGS[kind] if flag not in RESUMES]
    word = st.one_of(
        texts.filter(lambda text: "resume" not in text),
        st.integers().map(str),
        st.floats().map(str),
        st.sampled_from(
            ["box", "auto", "1:2", "0.5", "out", "--help", "--", "-x", "--data.source=x", "--preset=article"]
        ),
    )
    line = []
    for _ in range(draw(st.integers(1, 4))):
        line += [draw(st.sampled_from(flags))] * draw(st.integers(0, 1))
        line += draw(st.lists(word, max_size=2))
    return line


@examples(few=40, many=400)
@given(st.sampled_from(KINDS), st.data())
def test_every_command_line_gives_settings_or_an_error(kind, data):
    line = data.draw(command_lines(kind))
    with contract(InputError), contextlib.redirect_stdout(io.StringIO()):
        try:
            settings = cli.parse(line, kind)
        except SystemExit as end:
            helped = not end.code and {"--help", "-h"} & set(line)
            if not helped:
                raise
        else:
            assert config.validate(settings) == settings
