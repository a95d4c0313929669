"""Bytes that cross in a round, by codec: ``python benchmarks/exchange.py FOLDER``.

Trains the two sites of the quickstart on their demonstrations for a few steps, two rounds at each rank, and tells the
adapters of the second round in every way: up each site's update, down the mean of the updates.  Sizes are those of the
whole messages.  FOLDER keeps the runs, so that a second call only measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import fedse
from fedse.adapters.deltas import CODECS, tell
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.averaging import average
from fedse.messages import Instruction, Purpose, Reply, Update
from fedse.messages.wire import Delta
from fedse.results.reading import run_at
from fedse.types import CodecName

RANKS = (2, 4, 8, 16)
ROUND = 2
MIB = 2**20
#: Parameters of the adapter on all linear layers of Llama2-7B, for each unit of rank.
LLAMA2_7B = 32 * 78_080
SETTINGS = (
    "rounds=2",
    "workers=1",
    "clients.*.demonstrations=32",
    "method.explore=false",
    "training.steps=6",
    "evaluation.tasks=1",
    "evaluation.every=0",
    "exchange.codec=fp32",
)


def trained(root: Path, rank: int) -> tuple[AdapterState, dict[str, AdapterState]]:
    """The adapter before a round, and site → its update, exactly."""
    folder = root / f"r{rank}"
    config = fedse.load_config("quickstart", None, [*SETTINGS, f"lora.rank={rank}"])
    fedse.run(config, folder, resume=True)
    run = run_at(folder)
    return run.adapter(ROUND - 1), {site: run.update(ROUND, site) for site in config.sites}


def sizes(codec: CodecName, before: AdapterState, updates: dict[str, AdapterState]) -> tuple[float, int, float]:
    """Mean bytes up, bytes down, and the relative error of the new global adapter's change."""
    up: list[int] = []
    received: dict[str, AdapterState] = {}
    for site, update in updates.items():
        told = tell(codec, before, update, {})
        received[site] = told.adapter
        answer = Update(adapter=told.adapter)
        reply = Reply(site=site, purpose=Purpose.ROUND, round=ROUND, answer=answer)
        up.append(len(reply.encode({told.adapter.digest: Delta(before.digest, codec, told.payload)})))
    equal = dict.fromkeys(updates, 1.0)
    told = tell(codec, before, average(received, equal), {})
    instruction = Instruction(site="maze", purpose=Purpose.ROUND, round=ROUND + 1, adapter=told.adapter)
    down = len(instruction.encode({told.adapter.digest: Delta(before.digest, codec, told.payload)}))
    exact = average(updates, equal)
    change = norm(exact, before)
    return float(np.mean(up)), down, norm(told.adapter, exact) / change


def norm(one: AdapterState, other: AdapterState) -> float:
    """Of the difference of two adapters."""
    squares = (
        float(((array.astype(np.float64) - other.tensors[name]) ** 2).sum()) for name, array in one.tensors.items()
    )
    return float(np.sqrt(sum(squares)))


def main(root: Path) -> None:
    print(
        "| r | codec | up MiB | down MiB | up, times less | down, times less | error of the change "
        "| Llama2-7B up | down |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rank in RANKS:
        before, updates = trained(root, rank)
        plain = before.nbytes
        for codec in CODECS:
            up, down, error = sizes(codec, before, updates)
            llama = LLAMA2_7B * rank * 4 / MIB
            cells = [f"{up / MIB:.2f}", f"{down / MIB:.2f}", f"{plain / up:.2f}", f"{plain / down:.2f}", f"{error:.4f}"]
            print(f"| {rank} | {codec} | {' | '.join(cells)} | {llama * up / plain:.1f} | {llama * down / plain:.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
