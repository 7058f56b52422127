"""`make fuzz`: runs the fuzzers in rounds, each with another seed, until FUZZ_MINUTES (10) are over or one fails."""

import os
import random
import subprocess
import sys
import time

MINUTES = float(os.environ.setdefault("FUZZ_MINUTES", "10"))

end, rounds = time.monotonic() + 60 * MINUTES, 0
while time.monotonic() < end:
    rounds += 1
    command = ["-m", "pytest", "--quiet", "tests/fuzz", f"--hypothesis-seed={random.randrange(2**32)}"]
    print(f"round {rounds}: FUZZ_MINUTES={MINUTES:g} python {' '.join(command)}", flush=True)
    left = end - time.monotonic()
    try:
        code = subprocess.run([sys.executable, *command, *sys.argv[1:]], timeout=left).returncode
    except subprocess.TimeoutExpired:
        print(f"{MINUTES:g} minutes are over, in round {rounds}")
        break
    if code:
        print("found something: mend it, and keep the input as an @example; the command above shows it again")
        sys.exit(code)
