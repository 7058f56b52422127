"""Runs `faceae serve` from a checkout, so that it can be submitted to a cluster; --help shows the flags.

ray job submit --working-dir . -- python jobs/serve.py ...
"""

from faceae.cli import run_job

if __name__ == "__main__":
    run_job("serve")
