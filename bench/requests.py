"""How long a service takes to restore a picture, by the number of people who ask at the same time.

    faceae serve out/faces/model &
    python -m bench.requests http://localhost:8000 old.jpg mask.png --clients 1 8 32 --seconds 30

Each client asks again as soon as it has its answer, a picture in the format of the one that it sent. With FACEAE_TOKEN
in the environment the requests have it, too.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path

import numpy as np
import requests
from rich.table import Table

from faceae.config.serve import TOKEN
from faceae.console import out


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the service, such as http://localhost:8000")
    parser.add_argument("picture", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=30, help="for each number of clients")
    arguments = parser.parse_args()
    chosen = {"image": arguments.picture, "mask": arguments.mask}
    files = {field: (path.name, path.read_bytes()) for field, path in chosen.items()}
    table = Table("clients", "requests", "pictures/s", "median, s", "95 % within, s", "refused")
    for clients in arguments.clients:
        took, refused = load(arguments.url, files, clients, arguments.seconds)
        median, most = np.percentile(took, [50, 95]) if took else (np.nan, np.nan)
        speed = len(took) / arguments.seconds
        table.add_row(str(clients), str(len(took)), f"{speed:.2f}", f"{median:.2f}", f"{most:.2f}", str(refused))
    out.print(table)


def load(url: str, files: dict[str, tuple[str, bytes]], clients: int, seconds: float) -> tuple[list[float], int]:
    """Returns how long each restored picture took in seconds, and how many requests were refused."""
    took: list[float] = []
    refused: list[int] = []
    headers = {"Authorization": f"Bearer {os.environ[TOKEN]}"} if TOKEN in os.environ else {}
    end = time.monotonic() + seconds

    def ask() -> None:
        session = requests.Session()
        while (started := time.monotonic()) < end:
            answer = session.post(f"{url}/restore", files=files, headers=headers, timeout=600)
            if answer.ok:
                took.append(time.monotonic() - started)
            else:
                refused.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took, len(refused)


if __name__ == "__main__":
    main()
