"""The part of `make gpu` that needs Ray."""

from bench import gpu


def test_the_feed_runs_where_ray_does(ray_cluster):
    assert gpu.feed(small=True)["later_epochs_images_per_second"] > 0
