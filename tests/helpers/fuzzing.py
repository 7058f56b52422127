"""What the fuzzers in tests/fuzz share: the profiles, mutations of files, and what no input may do."""

import contextlib
import os
import resource
import signal
import string

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = 10  # of processor time: a busy machine is no reason to fail
MEGABYTES = 1920  # an animated WebP of `images.MAX_PIXELS` takes 1700

LONG = "FUZZ_MINUTES" in os.environ
"""Whether `make fuzz` runs the fuzzers. In `make test` they are few, and the same each time."""


def examples(few: int, many: int):
    """Decorates a fuzzer: it tries `few` inputs in `make test`, `many` in each round of `make fuzz`."""
    return settings(
        max_examples=many if LONG else few,
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class TooSlow(BaseException):
    """Not an Exception, which what is tested might catch."""


def _stop(*_):
    raise TooSlow(f"more than {SECONDS} s of processor time")


@contextlib.contextmanager
def contract(*documented):
    """Lets the documented errors pass if they have one line, and fails for other errors, much time and much memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    except documented as error:
        assert_line(str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) >> 10
    assert grown < MEGABYTES, f"{grown} MB"


def assert_line(text: str) -> None:
    """Asserts that a message is one line that fits a screen."""
    assert text
    assert len(text) < 2000
    assert len(text.splitlines()) == 1


_NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
]


@st.composite
def mutated(draw, seeds):
    """Draws one of some files with a few changes: bits, lengths, parts cut out, doubled, or taken from another file."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        end = at + draw(st.sampled_from([1, 2, 4, 16, 100, 512, 5000]))
        kind = draw(st.sampled_from(["bit", "byte", "number", "cut", "end", "double", "splice", "zero"]))
        if kind == "bit":
            content[at : at + 1] = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[at : at + 1])
        elif kind == "byte":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "number":
            size, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(["big", "little"]))
            content[at : at + size] = (draw(st.sampled_from(_NUMBERS)) % 256**size).to_bytes(size, order)
        elif kind == "cut":
            del content[at:end]
        elif kind == "end":
            del content[at:]
        elif kind == "double":
            content[at:at] = content[at:end]
        elif kind == "splice":
            other = draw(st.sampled_from(seeds))
            start = draw(st.integers(0, max(0, len(other) - 1)))
            content[at:end] = other[start : start + end - at]
        else:
            content[at:end] = bytes(len(content[at:end]))
    return bytes(content)


numbers = st.one_of(st.sampled_from([*_NUMBERS, *(-number for number in _NUMBERS)]), st.floats(), st.integers())
texts = st.one_of(
    st.text(max_size=20),
    st.text(string.digits + ":-.e", max_size=12),
    st.sampled_from(
        ["", "None", "nan", "9" * 5000, "x" * 100_000, "a\nb", "\0", "\x1b[31m", "١", "[/x]", "../..", "\ud800"]
    ),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts)
trees = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4))
)


@st.composite
def changed(draw, tree):
    """Draws a tree of JSON with a few values replaced, removed or added, anywhere."""
    for _ in range(draw(st.integers(1, 3))):
        tree = _change(draw, tree)
    return tree


def _change(draw, tree):
    if isinstance(tree, dict | list) and tree and draw(st.integers(0, 7)):
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = draw(st.sampled_from(keys))
        copy = dict(tree) if isinstance(tree, dict) else list(tree)
        kind = draw(st.integers(0, 9))
        if kind == 0:
            del copy[key]
        elif kind == 1 and isinstance(copy, dict):
            copy[draw(texts)] = draw(trees)
        elif kind == 2 and isinstance(copy, list):
            copy.append(copy[key])
        else:
            copy[key] = _change(draw, copy[key])
        return copy
    return draw(trees)
