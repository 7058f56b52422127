"""Measurements, see `python -m bench --help`; they use the S3 server and the counting of the tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
