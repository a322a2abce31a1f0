"""What the benchmarks found before: `baseline.json`, from the name of a ratio to the ratio; more is always better.

    {"scheduling.claim.sqlite": 120.0, ...}

Each benchmark's `main` returns the ratios it found by name, its own name first (`export.csv.elasticsearch`); one where
less is better is returned upside down. `python -m bench --check` compares. Ratios of one run on one machine move far
less than figures do, and yet they move: one may fall to `TOLERANCE` of its baseline before that counts as a regression.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.7
PROMISED: Mapping[str, float] = {
    **{f"scheduling.claim.{kind}": 20.0 for kind in ("sqlite", "postgresql")},
    **{f"scheduling.lateness.{kind}": 0.5 for kind in ("sqlite", "postgresql")},
    **{f"scheduling.idle.{kind}": 1.0 for kind in ("sqlite", "postgresql")},
}
"""What the service promises, whatever the baseline says."""


def short_of_promises(found: Mapping[str, float]) -> list[str]:
    """Say which ratios are under what is promised."""
    return [
        f"{name} is {ratio:.3g}; {PROMISED[name]:g} is promised"
        for name, ratio in sorted(found.items())
        if ratio < PROMISED.get(name, 0)
    ]


def read() -> dict[str, float]:
    """Return the baseline."""
    return {name: float(ratio) for name, ratio in json.loads(BASELINE.read_text()).items()}


def write(found: Mapping[str, float], ran: Collection[str]) -> None:
    """Make what the benchmarks that `ran` found the baseline; the others' stays."""
    kept = {name: ratio for name, ratio in read().items() if _benchmark(name) not in ran}
    rounded = {name: float(f"{ratio:.3g}") for name, ratio in found.items()}
    BASELINE.write_text(json.dumps(dict(sorted((kept | rounded).items())), indent=2) + "\n")


def regressions(found: Mapping[str, float], ran: Collection[str], baseline: Mapping[str, float]) -> list[str]:
    """Say what got worse: each ratio under TOLERANCE of its baseline, and each that one has and the other has not."""
    faults = [
        f"{name} is {ratio:.3g} and has no baseline: --write notes it"
        for name, ratio in found.items()
        if name not in baseline
    ]
    for name, before in baseline.items():
        if _benchmark(name) not in ran:
            continue
        if name not in found:
            faults.append(f"{name} was not measured; its baseline is {before:.3g}")
        elif found[name] < before * TOLERANCE:
            faults.append(f"{name} fell to {found[name]:.3g}; its baseline is {before:.3g}")
    return sorted(faults)


def _benchmark(name: str) -> str:
    return name.partition(".")[0]
