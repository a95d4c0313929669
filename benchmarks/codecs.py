"""What codecs do to a federation over its rounds: ``python benchmarks/codecs.py FOLDER``.

Runs short federations of five sites on the nano model from one seed, one for each codec: once on demonstrations alone,
where rounding is all that differs, and once with exploration, where a token that is drawn otherwise makes other
experience.  Prints how far the global adapter is from that of float32, over how far that one has moved, and success on
held-out tasks.  FOLDER keeps the runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from exchange import norm

import fedse
from fedse.adapters.deltas import CODECS
from fedse.results.reading import Run, run_at

ROUNDS = 4
SETTINGS = (
    f"rounds={ROUNDS}",
    "workers=1",
    "clients.*.demonstrations=8",
    "clients.*.episodes_per_round=8",
    "method.warmup_rounds=1",
    "evaluation.tasks=12",
    "evaluation.every=0",
)


def success(run: Run) -> str:
    """Successes of all episodes before and after."""
    counts = [
        [sum(values) for values in zip(*((r.successes, r.episodes) for r in record.evaluation.values()), strict=True)]
        for record in (run.records[0], run.records[-1])
    ]
    return " → ".join(f"{successes}/{episodes}" for successes, episodes in counts)


def main(root: Path) -> None:
    print(f"| experience | codec | {' | '.join(f'round {number}' for number in range(1, ROUNDS + 1))} | successes |")
    print(f"|---|---|{'---|' * ROUNDS}---|")
    for explore in ("false", "true"):
        runs: dict[str, Run] = {}
        for codec in CODECS:
            folder = root / f"{codec}-{explore}"
            config = fedse.load_config(
                "nano", None, [*SETTINGS, f"method.explore={explore}", f"exchange.codec={codec}"]
            )
            fedse.run(config, folder, resume=True, baselines=[root / "fp32-false"])
            runs[codec] = run_at(folder)
            exact, found = (
                [run.adapter(number) for number in range(ROUNDS + 1)] for run in (runs["fp32"], runs[codec])
            )
            errors = [norm(found[n], exact[n]) / norm(exact[n], exact[0]) for n in range(1, ROUNDS + 1)]
            kind = "explored" if explore == "true" else "demonstrations"
            print(
                f"| {kind} | {codec} | {' | '.join(f'{error:.4f}' for error in errors)} | {success(runs[codec])} |",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
