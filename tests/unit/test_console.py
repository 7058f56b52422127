"""What is printed is what was given: paths may look like Rich's markup or emoji."""

import time

import pytest

from faceae.console import Meter, out
from faceae.reporting.tables import result_table


@pytest.mark.parametrize("text", ["o [/x]", "[bold]o", "[link=x]", ":smile:", "a\\[b]"])
def test_any_text_is_printed_as_it_is(text, capsys):
    out.print(f"folder    {text}")
    out.print(result_table(f"images of {text}", [(text, ["0.1"] * 6)]))
    with Meter(text, 10) as meter:
        meter.line(text)
        out.print(meter.bar.get_renderable())
    assert capsys.readouterr().out.count(text) == 5


@pytest.mark.parametrize(
    ("done", "seconds", "rate"),
    [(1200, 10, "120 images/s"), (20, 10, "2.0 images/s"), (2, 40, "20.0 s an image"), (0, 5, "0.0 images/s")],
)
def test_a_slow_rate_is_told_in_seconds(done, seconds, rate):
    meter = Meter("restoring", 4000)
    meter.done, meter.start = done, time.monotonic() - seconds
    assert meter.summary().endswith(f"({rate})")
