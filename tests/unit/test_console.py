"""What is printed is what was given: paths may look like Rich's markup or emoji."""

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
