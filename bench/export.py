"""`make bench`: rows per second, CPU seconds and memory of whole exports, beside the raw drain and the peers.

    python -m bench.export [--elasticsearch DOCUMENTS] [--rounds 3] [--peers] [--url URL]
                           [--files 10000,100000,1000000,10000000] [--nested DOCUMENTS] [--apart]

Figures of one machine say little, and less while it is busy; what is compared are ratios. Every measurement is a
process of its own, and they take turns, round after round. Two ratios to the raw drain of the same round are shown: of
rows a second, and of rows a CPU second, the client's and the server's together. Where both share the processors and
nobody else does they are near each other; the second hardly minds company, and its median is what `main` returns by
name, more being better. Peers: `helpers.scan` with the csv module, and elasticdump at its defaults (the first 100,000
documents: its rate is even) and tuned; the ratios are ours to theirs.

With `--apart` Elasticsearch has one half of the processors and its clients have the other, as where it is a cluster.
Then, while nobody else uses the machine, rows a second say how near an export comes to what the server can give.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import elasticdump
from bench.one import CHAIN, QUERY
from tasks_service.sample import load_elasticsearch, write_files
from tests.servers.parts import UnavailableError

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
ROW = "{name:<40}{rows:>11,}{rate:>10,.0f}{cpu:>8.1f}{server:>8.1f}{peak:>6.0f}{ratio:>7}{by_cpu:>7}"
SHARE = 0.75  # of the sample's documents are the chain's
ENGINE = {"jsonl": "-> jsonl", "csv": "-> csv, every column", "csv-flat": "-> csv, six flat columns"}
LIMIT = "raw drain, 4 slices"
DEFAULTS_ROWS = 100_000
READERS = 4

Found = dict[str, Any]
Ratios = dict[str, float]


def measure(what: str, kind: str, where: str, index: str, readers: int = READERS) -> Found:
    command = [sys.executable, "-m", "bench.one", what, kind, where, index, str(readers)]
    before = server_cpu(where) if kind == "elasticsearch" else 0.0
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} from {kind} failed:\n{done.stderr}")
    server = server_cpu(where) - before if kind == "elasticsearch" else 0.0
    return {**json.loads(done.stdout.splitlines()[-1]), "server_cpu_seconds": server}


def server_cpu(url: str) -> float:
    """CPU seconds that all nodes have used so far."""
    with urllib.request.urlopen(f"{url}/_nodes/stats/process") as answer:  # noqa: S310 -- loopback
        nodes = json.loads(answer.read())["nodes"].values()
    return sum(node["process"]["cpu"]["total_in_millis"] for node in nodes) / 1000


def show(name: str, found: Found, limit: Found | None = None) -> None:
    print(
        ROW.format(
            name=name,
            rows=found["rows"],
            rate=rate(found),
            cpu=found["cpu_seconds"],
            server=found["server_cpu_seconds"],
            peak=found["peak_mib"],
            ratio="" if limit is None else f"{rate(found) / rate(limit):.2f}",
            by_cpu="" if limit is None else f"{by_cpu(found, limit):.2f}",
        ),
        flush=True,
    )


def rate(found: Found) -> float:
    return found["rows"] / found["seconds"]


def by_cpu(found: Found, other: Found) -> float:
    """Rows a CPU second, client and server together, as a ratio."""
    ours, theirs = (one["rows"] / (one["cpu_seconds"] + one["server_cpu_seconds"]) for one in (found, other))
    return ours / theirs


# -- document files ---------------------------------------------------------------------------------------------------


def files(sizes: list[int]) -> Ratios:
    """Every size beside the reading alone; and what a row costs, and memory, at the largest beside the one below it."""
    ratios: Ratios = {}
    by_size: dict[int, Found] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            documents(Path(directory), size)
            limit = measure("drain", "files", directory, "products", 2)
            show(f"files {size:,}: read only", limit)
            for what in ("jsonl", "csv"):
                found = measure(what, "files", directory, "products", 2)
                show(f"files {size:,} -> {what}", found, limit)
                ratios[f"export.files.{what}"] = by_cpu(found, limit)
            by_size[size] = found
    if len(sizes) > 1:
        few, many = by_size[sorted(sizes)[-2]], by_size[max(sizes)]
        ratios["export.flat.rows_per_cpu_second"] = by_cpu(many, few)
        ratios["export.flat.memory"] = few["peak_mib"] / many["peak_mib"]
        print(
            f"{max(sizes):,} rows beside {sorted(sizes)[-2]:,}: {ratios['export.flat.rows_per_cpu_second']:.2f} of the "
            f"rows a CPU second, {1 / ratios['export.flat.memory']:.2f} of the memory"
        )
    return ratios


def documents(directory: Path, size: int) -> None:
    """Write so many documents; more than a million as links to the same file."""
    million = 1_000_000
    write_files(directory, {"products": min(size, million)}, until=UNTIL)
    [first] = (directory / "products").glob("*.parquet")
    for number in range(1, size // million):
        os.link(first, first.with_name(f"again-{number}.parquet"))


# -- Elasticsearch ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(url: str | None) -> Generator[str]:
    """An Elasticsearch: the one at that URL, else one for this run."""
    from tests.servers import keeper

    if url is not None:
        yield url
        return
    with keeper.leading():
        keeper.begin("tests.servers.elasticsearch:SERVER_8")
        yield str(keeper.attach("tests.servers.elasticsearch:SERVER_8")["url"])


def keep_apart(url: str) -> None:
    """Give the nodes, which must be of this machine, half of the processors, and this process and its own the rest."""
    with urllib.request.urlopen(f"{url}/_nodes/process") as answer:  # noqa: S310 -- loopback
        nodes = json.loads(answer.read())["nodes"].values()
    processors = sorted(os.sched_getaffinity(0))
    theirs, ours = processors[: len(processors) // 2], processors[len(processors) // 2 :]
    for node in nodes:
        for task in Path(f"/proc/{node['process']['id']}/task").iterdir():
            os.sched_setaffinity(int(task.name), theirs)
    os.sched_setaffinity(0, ours)
    print(f"Elasticsearch on processors {theirs}, its clients on {ours}")


def loaded(url: str, index: str, wanted: int) -> str:
    """Return the name of an index in which the chain has about so many documents; loaded where it is not there."""
    total = int(wanted / SHARE)
    name = f"bench-{total}-{index}"
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/{name}/_count") as answer:  # noqa: S310 -- http
        if json.loads(answer.read())["count"] >= total:
            return name
    load_elasticsearch(url, {index: total}, until=UNTIL, prefix=f"bench-{total}-")
    return name


def engine(url: str, index: str, rounds: int, name: str, ways: dict[str, str]) -> tuple[Ratios, dict[str, Found]]:
    """The ways take turns with the raw drain; return the median ratios, and the last round's measurements."""
    within: dict[str, list[float]] = {what: [] for what in ways}
    by_clock: dict[str, list[float]] = {what: [] for what in ways}
    last: dict[str, Found] = {}
    measure("raw", "elasticsearch", url, index)  # a server that has just begun is compiling itself
    for number in range(rounds):
        limit = last["raw"] = measure("raw", "elasticsearch", url, index)
        show(f"{name} {LIMIT}" if not number else f"  round {number + 1}", limit)
        for what, title in ways.items():
            found = last[what] = measure(what, "elasticsearch", url, index)
            within[what].append(by_cpu(found, limit))
            by_clock[what].append(rate(found) / rate(limit))
            show(f"{name} {title}", found, limit)
    medians = {what: statistics.median(ratios) for what, ratios in within.items()}
    for way, found_ratios in (("by CPU", within), ("by the clock", by_clock)):
        said = ", ".join(f"{what} {statistics.median(ratios):.2f}" for what, ratios in found_ratios.items())
        print(f"{name}, medians {way}: {said}")
    return {f"export.{name}.{what}": ratio for what, ratio in medians.items()}, last


def peers(url: str, index: str, ours: dict[str, Found]) -> Ratios:
    """The same documents through what else there is; ratios are ours to theirs."""
    scan = measure("scan", "elasticsearch", url, index)
    show("helpers.scan + csv module", scan, ours["raw"])
    ratios = {"export.peer.scan_csv": by_cpu(ours["csv"], scan)}
    tuned = {"defaults": (f"--size={DEFAULTS_ROWS}",), "tuned": ("--limit=10000", "--concurrency=4")}
    try:
        elasticdump.program()
    except UnavailableError as error:
        print(f"elasticdump could not be had, and is not compared: {error}")
        return ratios
    with elasticdump.answering_root(url) as front:
        for name, options in tuned.items():
            before = server_cpu(url)
            found = dumped(front, index, options)
            found["server_cpu_seconds"] = server_cpu(url) - before
            show(f"elasticdump, {name}, -> jsonl", found, ours["raw"])
            ratios[f"export.peer.elasticdump_{name}"] = by_cpu(ours["jsonl"], found)
    return ratios


def dumped(url: str, index: str, options: tuple[str, ...]) -> Found:
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "dump.jsonl"
        started = time.perf_counter()
        process = subprocess.Popen(elasticdump.command(url, index, QUERY, output, *options), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        assert process.returncode == 0, "elasticdump failed"
        with output.open("rb") as lines:
            rows = sum(1 for _ in lines)
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }


def elasticsearch(chosen: argparse.Namespace) -> Ratios:
    with server(chosen.url) as url:
        index = loaded(url, "products", chosen.elasticsearch)
        if chosen.apart:
            keep_apart(url)
        ratios, ours = engine(url, index, chosen.rounds, "elasticsearch", ENGINE)
        if chosen.peers:
            ratios |= peers(url, index, ours)
        if chosen.nested:
            nested = loaded(url, "transactions", chosen.nested)
            both = {what: title for what, title in ENGINE.items() if what != "csv-flat"}
            ratios |= engine(url, nested, chosen.rounds, "nested", both)[0]
    return ratios


def main(given: list[str] | None = None) -> Ratios:
    parser = argparse.ArgumentParser(prog="python -m bench.export", description=__doc__)
    parser.add_argument("--files", default="10000,100000,1000000", help="sizes; empty for none")
    parser.add_argument("--elasticsearch", type=int, default=300_000, help="documents of the chain; 0 for none")
    parser.add_argument("--nested", type=int, default=100_000, help="documents with nested ones; 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--url", help="an Elasticsearch to use, whose bench-* indices are kept and used again")
    parser.add_argument("--apart", action="store_true", help="give server and clients processors of their own")
    chosen = parser.parse_args(given)
    print(f"Chain {CHAIN}, {os.cpu_count()} processors, which server and client share")
    print(f"{'':<40}{'rows':>11}{'rows/s':>10}{'cpu s':>8}{'server':>8}{'MiB':>6}{'rate':>7}{'by cpu':>7}")
    ratios: Ratios = {}
    if chosen.elasticsearch:
        ratios |= elasticsearch(chosen)
    if chosen.files:
        ratios |= files([int(size) for size in chosen.files.split(",")])
    return ratios


if __name__ == "__main__":
    main()
