"""Measurements, see `python -m bench --help`. They use the tests' S3 server and their counting of opened files."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
