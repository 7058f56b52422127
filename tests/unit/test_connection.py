"""The token that local clusters ask for."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from faceae.cluster.connection import make_token


@pytest.fixture
def token(tmp_path, monkeypatch):
    """The path of a user's token who has none yet, and whose files anyone may read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    before = os.umask(0)
    yield tmp_path / ".ray" / "auth_token"
    os.umask(before)


def test_only_its_owner_can_read_a_new_token(token, capsys):
    make_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]
    assert not capsys.readouterr().out


def test_of_several_first_runs_all_get_the_same_whole_token(token):
    def make(_):
        make_token()
        return token.read_text()

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(make, range(64)))
    assert {len(text) for text in found} == {64}
    assert len(found) == 1


def test_a_token_that_others_can_read_stays_and_is_said(token, capsys):
    token.parent.mkdir()
    token.write_text("mine")
    make_token()
    assert token.read_text() == "mine"
    assert f"others can read it: chmod 600 {token}" in capsys.readouterr().out


def test_a_token_given_in_the_environment_needs_no_file(token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    make_token()
    assert not token.parent.exists()
