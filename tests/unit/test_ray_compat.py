"""What faceae expects of Ray, and what it passes on to other machines."""

import os

import pytest
import ray

from faceae import ray_compat
from faceae.errors import InputError


@pytest.mark.parametrize("version", ["2.59.1", "2.61.0", "3.0.0", "2.6.0"])
def test_another_version_of_ray_is_refused_with_what_to_do(version, monkeypatch):
    monkeypatch.setattr(ray, "__version__", version)
    advice = r"pip install 'ray\[default,train,tune\]==2\.60\.\*'"
    with pytest.raises(InputError, match=rf"ray {version} is installed.*{advice}"):
        ray_compat.check_version()


def test_the_users_ray_train_variables_go_to_other_machines(monkeypatch):
    monkeypatch.setenv("RAY_TRAIN_SOMETHING", "7")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_compat.train_environment() == {}  # processes of this machine inherit them
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert ray_compat.train_environment()["RAY_TRAIN_SOMETHING"] == "7"


def test_a_variable_that_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "3")
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "")
    monkeypatch.delenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER")
    ray_compat.set_defaults(ray_compat.LOCAL_ENVIRONMENT)
    assert os.environ["RAY_worker_niceness"] == "3"  # noqa: SIM112  (the name is Ray's)
    assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
