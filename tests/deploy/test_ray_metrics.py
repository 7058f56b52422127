"""Ray's metrics of a run, scraped as Prometheus would, and the dashboard for Grafana. Part of `make cluster`."""

import json
import re
import subprocess
import sys
import urllib.request

import pytest
from rayhead import Head
from runs import ROOT

from faceae.cluster import gauges

NAMES = [getattr(gauges, name) for name in dir(gauges) if name.isupper() and isinstance(getattr(gauges, name), str)]


def queries():
    panels = json.loads((ROOT / "deploy" / "grafana.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def of_run(text):
    return [line for line in text.splitlines() if line.startswith("ray_faceae_") and 'run="seen"' in line]


def values_of(text):
    return {line.split("{")[0]: float(line.split()[-1]) for line in of_run(text)}


def test_the_dashboard_shows_only_metrics_that_there_are():
    asked = {re.sub(r"_(total|sum|count)$", "", name) for name in re.findall(r"ray_(faceae_\w+)", " ".join(queries()))}
    assert asked <= set(NAMES)
    assert len(asked) >= 8


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_is_seen_in_rays_metrics(tmp_path):
    with Head() as head:
        port = head.ports.pop()
        head.start_head("--num-cpus=4", f"--metrics-export-port={port}", RAY_metrics_report_interval_ms="500")
        flags = ["--data.source", "synthetic:200", "--data.image-size", "32", "--mask.size", "8"]
        flags += ["--train.epochs", "400", "--run.storage", str(tmp_path), "--run.name", "seen"]
        command = [sys.executable, "jobs/train.py", *flags]
        environment = {**head.environment, "RAY_ADDRESS": f"127.0.0.1:{head.gcs}"}
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def scraped() -> str:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/metrics", headers={"authorization": f"Bearer {head.token}"}
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read().decode()

        try:
            # An epoch has 179 images, so these counts come with the second one.
            counts = {"ray_faceae_images_trained_total": 181, "ray_faceae_masks_drawn_total": 180}

            def reached() -> bool:
                found = values_of(scraped())
                return run.poll() is None and all(found.get(name, 0) >= count for name, count in counts.items())

            head.wait_for(lambda: run.poll() is None and all(f"ray_{name}" in scraped() for name in NAMES), 120)
            head.wait_for(reached, 120)
            text = scraped()
            lines, values = of_run(text), values_of(text)
            assert values["ray_faceae_images_trained_total"] > 180
            assert values["ray_faceae_training_workers"] == 1
            assert values["ray_faceae_cached_bytes"] == 200 * 32 * 32 * 3
            assert values["ray_faceae_masks_drawn_total"] >= 180
            assert 0 <= values["ray_faceae_data_wait_fraction"] <= 1
            assert any('metric="composite_mse"' in line for line in lines)
            assert values["ray_faceae_checkpoint_seconds_count"] >= 1
        finally:
            run.terminate()
            run.wait(60)
