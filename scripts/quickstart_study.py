"""The quickstart over several seeds beside its control, as a table for docs/results/quickstart.md.

    python scripts/quickstart_study.py [--seeds 0 1 2] [--out runs/study] [--records results/quickstart]

Plays every run that is not there yet, one after the other, and goes on where it was stopped.  The control spends its
time on demonstrations alone: the same sites, model, aggregation and training, no episodes played.  With --records what
the runs recorded is copied there, without adapters and experience.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from fedse.evaluation import macro_average
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.storage import atomic_directory
from fedse.suites.packing import pack_run
from fedse.types import RoundRecord

PRESETS = {"quickstart": "Fed-SE", "quickstart-demonstrations": "demonstrations alone"}


def run(preset: str, seed: int, folder: Path) -> tuple[RoundRecord, ...]:
    """The records of a run, which is begun or gone on with if it is not complete."""
    command = ["run", "--preset", preset, "--set", f"seed={seed}", "--out", str(folder), "--resume", "--quiet"]
    command += ["--set", "exchange.codec=fp32"]  # as in the runs that are published
    subprocess.run([sys.executable, "-m", "fedse", *command], check=True, stdout=subprocess.DEVNULL)
    return read_records(RunFolder(folder).server)


def row(method: str, seed: int, records: tuple[RoundRecord, ...]) -> str:
    """One line of the table: rates with intervals before and after, and minutes of work."""
    before, after = records[0].evaluation, records[-1].evaluation
    cells = []
    for name in after:
        rate = after[name]
        cells.append(f"{before[name].rate:.0%} → **{rate.rate:.0%}** [{rate.low:.0%}, {rate.high:.0%}]")
    work = sum(sum(record.seconds.values()) for record in records) / 60
    return f"| {method} | {seed} | {' | '.join(cells)} | {work:.1f} |"


def main() -> None:
    """Run what is missing and print the table and the mean gains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--records", type=Path, help="copy the runs' records into this folder")
    options = parser.parse_args()
    found = {
        (preset, seed): run(preset, seed, options.out / f"{preset}-seed{seed}")
        for seed in options.seeds
        for preset in PRESETS
    }
    for preset, seed in found if options.records else ():
        name = f"{preset}-seed{seed}"
        with atomic_directory(options.records / name) as made:
            pack_run(options.out / name, made)
    names = list(next(iter(found.values()))[-1].evaluation)
    print(f"| method | seed | {' | '.join(names)} | minutes |")
    print("|---|---|" + "---|" * (len(names) + 1))
    for (preset, seed), records in found.items():
        print(row(PRESETS[preset], seed, records))
    print()
    for preset, method in PRESETS.items():
        pairs = [
            (records[0].evaluation, records[-1].evaluation) for (name, _), records in found.items() if name == preset
        ]
        gains = [
            f"{name} {statistics.mean(after[name].rate - before[name].rate for before, after in pairs):+.0%}"
            for name in names
        ]
        both = statistics.mean(macro_average(after) - macro_average(before) for before, after in pairs)
        print(f"{method}, mean gain over {len(pairs)} seeds: {', '.join(gains)}; mean of environments {both:+.0%}")


if __name__ == "__main__":
    main()
