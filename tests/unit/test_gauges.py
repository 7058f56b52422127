"""What a job tells Ray's metrics."""

from faceae.cluster import gauges


def test_runs_and_trials_are_told_apart_by_their_folders():
    assert gauges.tags("/home/me/out/faces") == {"run": "faces", "trial": ""}
    assert gauges.tags("s3://bucket/runs/grid/trials/03-0.001") == {"run": "grid", "trial": "03-0.001"}


def test_images_are_counted_once_across_steps_epochs_and_resuming(monkeypatch):
    made = gauges.Gauges()
    counted = []
    monkeypatch.setattr(made._images, "inc", lambda number, tags: counted.append(number))
    record = {"images_per_second": 9.0, "data_wait_fraction": 0.0, "train_loss": 0.5, "val": {"mse": 0.1}}
    made.started("out/a", 2, 3, 40)  # 40 images of epoch 3 were trained before
    made.step("out/a", 3, 60)
    made.step("out/a", 4, 10)  # the next epoch begins before the last of this one is reported
    made.epoch("out/a", {"epoch": 3, "images": 100, **record})
    made.step("out/a", 4, 30)
    made.started("out/a", 1, 4, 20)  # a worker was lost: ten images are trained again
    made.step("out/a", 4, 30)
    assert counted == [20, 10, 40, 20, 10]
