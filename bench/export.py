"""`make bench`: rows per second and memory of whole exports, beside the raw drain and `helpers.scan` in the same run.

    python -m bench.export [--files 10000,100000,1000000] [--elasticsearch ROWS]

Figures of one machine say little; the ratios are what is compared. Every measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks_service.sample import load_elasticsearch, write_files

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
ROW = "{name:<34}{rows:>11,}{rate:>12,.0f}{cpu:>9.1f}{peak:>10.0f}{ratio:>9}"


def measure(what: str, kind: str, where: str, index: str, readers: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.one", what, kind, where, index, str(readers)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{what} from {kind} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, found: dict[str, Any], limit: dict[str, Any] | None) -> None:
    rate = found["rows"] / found["seconds"]
    ratio = f"{rate / (limit['rows'] / limit['seconds']):.2f}" if limit else ""
    print(
        ROW.format(
            name=name, rows=found["rows"], rate=rate, cpu=found["cpu_seconds"], peak=found["peak_mib"], ratio=ratio
        ),
        flush=True,
    )


def files(sizes: list[int]) -> None:
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            write_files(Path(directory), {"products": size}, until=UNTIL)
            limit = measure("drain", "files", directory, "products", 2)
            show(f"files {size:,}: read only", limit, None)
            for what in ("jsonl", "csv"):
                show(f"files {size:,} -> {what}", measure(what, "files", directory, "products", 2), limit)


def elasticsearch(rows: int) -> None:
    from tests.servers import keeper

    with keeper.leading():
        keeper.begin("tests.servers.elasticsearch:SERVER_8")
        url = str(keeper.attach("tests.servers.elasticsearch:SERVER_8")["url"])
        load_elasticsearch(url, {"products": rows}, until=UNTIL, prefix="bench-")
        limit = measure("drain", "elasticsearch", url, "bench-products", 4)
        show("elasticsearch: raw drain, 4 slices", limit, None)
        for what in ("jsonl", "csv", "scan"):
            name = "helpers.scan + csv module" if what == "scan" else f"elasticsearch -> {what}"
            show(name, measure(what, "elasticsearch", url, "bench-products", 4), limit)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", default="10000,100000,1000000")
    parser.add_argument("--elasticsearch", type=int, default=300_000)
    arguments = parser.parse_args(given)
    print(f"{'':<34}{'rows':>11}{'rows/s':>12}{'cpu s':>9}{'peak MiB':>10}{'ratio':>9}")
    if arguments.files:
        files([int(size) for size in arguments.files.split(",")])
    if arguments.elasticsearch:
        elasticsearch(arguments.elasticsearch)


if __name__ == "__main__":
    main()
