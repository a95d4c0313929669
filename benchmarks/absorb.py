"""Memory and speed of absorbing the replies of many sites, beside Flower's FedAvg.

    python benchmarks/absorb.py [--model nano] [--rank 16] [--most 1000]

Each measurement has a process of its own, whose peak memory is given.  fedse reads each reply from its file, checks and
decodes it, and adds it to the sum.  "Sums alone" goes over adapters that are decoded already.  Flower's FedAvg is given
the same tensors as the records of its messages, which it holds all at once; only its aggregation is timed.

Speeds are bytes of float32 tensors per second of processor time, so that they do not depend on what else the machine
does.  They are compared with a copy of 512 MB by numpy in the same process, bytes read and written.  Sites share 200
files; these are in the system's cache, because they have just been written.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.federation.strategies import Updates, make_strategy
from fedse.federation.strategies.averaging import average
from fedse.messages import Purpose, Reply, Update
from fedse.planning.architecture import architecture_of

FILES, REGIONS = 200, 10


@dataclass(frozen=True)
class Measured:
    """What one process needed.

    Attributes:
        peak: resident memory of the whole process at its highest, in bytes.
        seconds: of processor time, of absorbing.
        size: of the tensors absorbed, in bytes.
        bandwidth: of memory, in bytes per second.
    """

    peak: int
    seconds: float
    size: int
    bandwidth: float


def adapter_of(model: str, rank: int, seed: int) -> AdapterState:
    """Random values in the shapes of a model's adapter."""
    facts, generator = architecture_of(model), np.random.default_rng(seed)
    tensors = {}
    for layer in range(facts.layers):
        for name, (inputs, outputs) in facts.linears.items():
            path = f"base_model.model.model.layers.{layer}.{name}"
            tensors[path + SUFFIX_A] = generator.normal(size=(rank, inputs)).astype(np.float32)
            tensors[path + SUFFIX_B] = generator.normal(size=(outputs, rank)).astype(np.float32)
    return AdapterState(tensors, AdapterMeta(rank, 2.0 * rank, tuple(sorted(facts.linears)), "0" * 16))


def read(folder: Path, number: int) -> Update:
    """The update of a site, decoded from its reply."""
    answer = Reply.decode((folder / str(number % FILES)).read_bytes()).answer
    assert isinstance(answer, Update)
    return answer


def by_fedse(folder: Path, count: int) -> tuple[float, int]:
    """Seconds, and bytes absorbed: from files, with the strategy of a run."""
    scalars = {f"{number:06d}": {"examples": 1.0 + number % 7} for number in range(count)}
    strategy = make_strategy("weighted_mean", {})
    state = strategy.initial(read(folder, 0).adapter, {})
    updates = Updates(scalars, lambda site: read(folder, int(site)))
    began = time.process_time()
    strategy.absorb(state, updates)
    return time.process_time() - began, state.adapter().nbytes * count


def by_sums_alone(folder: Path, count: int) -> tuple[float, int]:
    """Seconds, and bytes absorbed: of decoded adapters."""
    adapters = [read(folder, number).adapter for number in range(min(count, FILES))]
    began = time.process_time()
    average((1.0 + number % 7, adapters[number % FILES]) for number in range(count))
    return time.process_time() - began, adapters[0].nbytes * count


def by_flower(folder: Path, count: int) -> tuple[float, int]:
    """Seconds, and bytes absorbed: by what FedAvg aggregates with."""
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    records, size = [], 0
    for number in range(count):
        adapter = read(folder, number).adapter
        arrays = ArrayRecord({name: Array(tensor) for name, tensor in adapter.tensors.items()})
        records.append(RecordDict({"arrays": arrays, "metrics": MetricRecord({"examples": 1.0 + number % 7})}))
        size += adapter.nbytes
    began = time.process_time()
    aggregate_arrayrecords(records, "examples")
    return time.process_time() - began, size


#: Each way, and the numbers of sites that it is measured with.
WAYS = {
    "fedse, from files": (by_fedse, (10, 100, 1_000, 10_000)),
    "fedse, sums alone": (by_sums_alone, (1_000,)),
    "Flower FedAvg": (by_flower, (10, 100, 1_000)),
}


def bandwidth() -> float:
    """Bytes that a copy reads and writes per second; the fastest of five."""
    source = np.ones(1 << 27, np.float32)
    target, fastest = np.zeros_like(source), 0.0
    for _ in range(5):
        began = time.process_time()
        np.copyto(target, source)
        fastest = max(fastest, 2 * source.nbytes / (time.process_time() - began))
    return fastest


def measure_here(way: str, folder: Path, count: int) -> Measured:
    seconds, size = WAYS[way][0](folder, count)
    # The system counts in KiB; macOS counts in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(peak, seconds, size, bandwidth())


def measure(way: str, folder: Path, count: int) -> Measured:
    command = [sys.executable, __file__, "--measure", way, "--folder", str(folder), "--most", str(count)]
    return Measured(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def differing(folder: Path, regions: int) -> tuple[float, float]:
    """The share of values that are not those of the mean of all sites when servers of regions come between.

    Returns:
        It where regions pass sums in float64, and where they pass means in float32; all with their weights.
    """
    weights = [1.0 + number % 7 for number in range(FILES)]
    everyone = sums = means = 0.0
    for region in range(regions):
        part = 0.0
        members = range(region * FILES // regions, (region + 1) * FILES // regions)
        for number in members:
            tensors = read(folder, number).adapter.tensors.values()
            term = weights[number] * np.concatenate([tensor.reshape(-1) for tensor in tensors], dtype=np.float64)
            part, everyone = part + term, everyone + term
        weight = sum(weights[number] for number in members)
        sums, means = sums + part, means + weight * (part / weight).astype(np.float32).astype(np.float64)
    flat, by_sums, by_means = (np.asarray(total / sum(weights), np.float32) for total in (everyone, sums, means))
    return float(np.mean(by_sums != flat)), float(np.mean(by_means != flat))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="whose adapter's shapes are taken")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--most", type=int, default=1_000, help="sites of the largest measurement")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(vars(measure_here(arguments.measure, arguments.folder, arguments.most))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(FILES):
            update = Update(adapter=adapter_of(arguments.model, arguments.rank, number), scalars={"examples": 1.0})
            reply = Reply(site=f"site-{number}", purpose=Purpose.ROUND, round=1, answer=update)
            (folder / str(number)).write_bytes(reply.encode())
        print(
            f"{arguments.model}, rank {arguments.rank}: {update.adapter.nbytes / 1e6:.2f} MB of float32 from each site"
        )
        print(f"{'':<20}{'sites':>7}{'peak MB':>10}{'of 10 sites':>13}{'seconds':>10}{'GB/s':>7}{'of bandwidth':>14}")
        for way in WAYS:
            report(way, folder, arguments.most)
        by_sums, by_means = differing(folder, REGIONS)
        print(f"{FILES} sites in {REGIONS} regions, values other than in the mean of all:")
        print(f"  regions pass sums in float64 {by_sums:.4%}, means in float32 {by_means:.1%}")


def report(way: str, folder: Path, most: int) -> None:
    """One line for each number of sites."""
    peaks: dict[int, int] = {}
    for count in (size for size in WAYS[way][1] if size <= most):
        found = measure(way, folder, count)
        peaks[count] = found.peak
        ratio = f"{found.peak / peaks[10]:.2f}" if 10 in peaks else "–"
        speed = found.size / found.seconds
        print(
            f"{way:<20}{count:>7,}{found.peak / 1e6:>10,.0f}{ratio:>13}{found.seconds:>10.2f}{speed / 1e9:>7.2f}"
            f"{speed / found.bandwidth:>14.1%}"
        )


if __name__ == "__main__":
    main()
