"""`faceae prepare` from a checkout, for `ray job submit --working-dir . -- python jobs/prepare.py ...`; --help says more."""

from faceae.cli import run_job

if __name__ == "__main__":
    run_job("prepare")
