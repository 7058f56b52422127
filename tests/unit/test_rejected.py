"""What is said of images that cannot be used."""

from faceae import storage
from faceae.data import rejected


def said_of(bad, folder, capsys):
    rejected.write_to(str(folder), bad)
    return capsys.readouterr().out.splitlines()


def test_each_reason_is_said_with_its_count_and_the_list_is_sorted(tmp_path, capsys):
    bad = [("b.png", "truncated"), ("._a.png", "attributes"), ("._c.png", "attributes")]
    said = said_of(bad, tmp_path, capsys)
    assert said == [
        f"rejected  3 images, listed in {tmp_path}/rejected.jsonl",
        "          2: attributes",
        "          1: truncated",
    ]
    assert [row["image_id"] for row in storage.read_lines(f"{tmp_path}/rejected.jsonl")] == [
        "._a.png",
        "._c.png",
        "b.png",
    ]


def test_many_reasons_take_few_lines(tmp_path, capsys):
    bad = [(f"{number}", f"reason {min(number, 7)}") for number in range(10)]
    said = said_of(bad, tmp_path, capsys)
    assert said[1] == "          3: reason 7"
    assert said[-1] == "          5: 5 other reasons"
    assert len(said) == 5
    assert said_of([], tmp_path, capsys) == []
