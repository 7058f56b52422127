"""`python -m faceae JOB ...`: the same as the command `faceae`."""

from faceae.cli import main

if __name__ == "__main__":
    main()
