"""`make bench`: every benchmark, one after the other.

    python -m bench [export segments ...] [--check | --write]

With --check the ratios are compared with those of baseline.json and with what is promised, and it ends with 1 where one
is worse; --write makes them the baseline.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from bench import baseline

BENCHMARKS = ("export", "segments", "scheduling")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"some of {', '.join(BENCHMARKS)}; else all")
    parser.add_argument(
        "--check", action="store_true", help="end with 1 where a ratio is worse than its baseline or promise"
    )
    parser.add_argument("--write", action="store_true", help="make what is found the baseline")
    chosen = parser.parse_args()
    if unknown := set(chosen.benchmarks) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    ran = chosen.benchmarks or BENCHMARKS
    found: dict[str, float] = {}
    for name in ran:
        found |= import_module(f"bench.{name}").main([]) or {}
    if chosen.write:
        baseline.write(found, ran)
    if not chosen.check:
        return 0
    faults = [*baseline.regressions(found, ran, baseline.read()), *baseline.short_of_promises(found)]
    print(*(faults or [f"No ratio of {len(found)} is worse than its baseline, or than what is promised."]), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
