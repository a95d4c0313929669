"""Memory and speed of absorbing the replies of many sites, beside Flower's FedAvg.

    python benchmarks/absorb.py [--model nano] [--rank 16] [--most 1000]
    python benchmarks/absorb.py --strategies --model meta-llama/Llama-2-7b-chat-hf --rank 8 --most 100 --files 4

The second command measures every strategy instead, each with as many sites as ``--most`` says.

Each measurement has a process of its own, whose peak memory is given.  fedse reads each reply from its file, checks and
decodes it, and adds it to the sum.  "Sums alone" goes over adapters that are decoded already, and counts what it moves:
each float32, and the float64 sum back and forth.  Flower's FedAvg is given the same tensors as the records of its
messages, which it holds all at once; only its aggregation is timed.

Speeds are bytes of float32 tensors per second of processor time, so that they do not depend on what else the machine
does.  They are compared with a copy of 512 MB by numpy in the same process, bytes read and written.  Sites share some
files; these are in the system's cache, because they have just been written.

Of strategies, what reading and decoding alone takes has a line of its own, and the bandwidth is measured with that.
What does not fit into memory goes through a temporary file, which shows in the seconds on the clock only.
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
from functools import cache
from pathlib import Path

import numpy as np

from fedse.adapters.moments import widths
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.federation.strategies import Sent, Updates, make_strategy, strategy_names
from fedse.federation.strategies.averaging import average
from fedse.messages import Purpose, Reply, Update
from fedse.planning.architecture import architecture_of
from fedse.types import FloatArray

REGIONS = 10
READING = "reading alone"


@dataclass(frozen=True)
class Measured:
    """What one process needed.

    Attributes:
        peak: resident memory of the whole process at its highest, in bytes.
        seconds: of processor time, of absorbing.
        clock: the same on the clock.
        size: of the tensors absorbed, in bytes.
        bandwidth: of memory, in bytes per second; 0 if it was not measured.
    """

    peak: int
    seconds: float
    clock: float
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


@cache
def files_in(folder: Path) -> int:
    """How many replies there are."""
    return len(list(folder.iterdir()))


def read(folder: Path, number: int) -> Update:
    """The update of a site, decoded from its reply."""
    answer = Reply.decode((folder / str(number % files_in(folder))).read_bytes()).answer
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
    """Seconds, and bytes moved: of the mean of decoded adapters.

    A value of float32 is read, and one of the sum in float64 is read and written: five times its bytes.
    """
    adapters = [read(folder, number).adapter for number in range(min(count, files_in(folder)))]
    began = time.process_time()
    average((1.0, adapters[number % len(adapters)]) for number in range(count))
    return time.process_time() - began, 5 * adapters[0].nbytes * count


def by_strategy(name: str, folder: Path, count: int) -> tuple[float, int]:
    """Seconds, and bytes of the files read: from files, brought into the form that the strategy asks for."""
    sites = [f"{number:06d}" for number in range(count)]
    initial = read(folder, 0).adapter
    rank = initial.meta.rank
    strategy = make_strategy("mean" if name == READING else name, {"own": rank // 2} if name == "owned" else {})
    state = strategy.initial(initial, dict.fromkeys(sites, rank))

    def load(site: str) -> Update:
        whole, sent = read(folder, int(site)).adapter, strategy.instruct(state, site)
        fitted = {key: np.resize(whole.tensors[key], array.shape) for key, array in sent.base.tensors.items()}
        adapter = AdapterState(fitted, sent.base.meta)
        return Update(adapter=adapter, scalars={"examples": 1.0}, tensors=tensors_for(sent))

    updates = Updates({site: {"examples": 1.0} for site in sites}, load)
    began = time.process_time()
    if name == READING:
        for _ in updates.values():
            pass
    else:
        strategy.absorb(state, updates)
    return time.process_time() - began, initial.nbytes * count


def tensors_for(sent: Sent) -> dict[str, FloatArray]:
    """What else the strategy asks for."""
    if sent.work.control:
        return dict(sent.base.tensors)
    if not sent.work.moments:
        return {}
    rank, told = sent.base.meta.rank, sent.work.moments
    sizes = {layer: rank if told == "adapter" else min(told, width) for layer, width in widths(sent.base).items()}
    return {layer: np.eye(size, dtype=np.float32) for layer, size in sizes.items()}


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
    "fedse, sums alone": (by_sums_alone, (100, 1_000)),
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
    began = time.monotonic()
    seconds, size = WAYS[way][0](folder, count) if way in WAYS else by_strategy(way, folder, count)
    clock = time.monotonic() - began
    # The system counts in KiB; macOS counts in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(peak, seconds, clock, size, bandwidth() if way in WAYS or way == READING else 0.0)


def measure(way: str, folder: Path, count: int) -> Measured:
    command = [sys.executable, __file__, "--measure", way, "--folder", str(folder), "--most", str(count)]
    return Measured(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def differing(folder: Path, regions: int) -> tuple[float, float]:
    """The share of values that are not those of the mean of all sites when servers of regions come between.

    Returns:
        It where regions pass sums in float64, and where they pass means in float32; all with their weights.
    """
    files = files_in(folder)
    weights = [1.0 + number % 7 for number in range(files)]
    everyone = sums = means = 0.0
    for region in range(regions):
        part = 0.0
        members = range(region * files // regions, (region + 1) * files // regions)
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
    parser.add_argument("--files", type=int, default=200, help="that the sites share")
    parser.add_argument("--strategies", action="store_true", help="measure all strategies, with --most sites")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(vars(measure_here(arguments.measure, arguments.folder, arguments.most))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(arguments.files):
            update = Update(adapter=adapter_of(arguments.model, arguments.rank, number), scalars={"examples": 1.0})
            reply = Reply(site=f"site-{number}", purpose=Purpose.ROUND, round=1, answer=update)
            (folder / str(number)).write_bytes(reply.encode())
        print(
            f"{arguments.model}, rank {arguments.rank}: {update.adapter.nbytes / 1e6:.2f} MB of float32 from each site"
        )
        if arguments.strategies:
            report_strategies(folder, arguments.most)
            return
        print(f"{'':<20}{'sites':>7}{'peak MB':>10}{'of 10 sites':>13}{'seconds':>10}{'GB/s':>7}{'of bandwidth':>14}")
        for way in WAYS:
            report(way, folder, arguments.most)
        regions = min(REGIONS, arguments.files)
        by_sums, by_means = differing(folder, regions)
        print(f"{arguments.files} sites in {regions} regions, values other than in the mean of all:")
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


def report_strategies(folder: Path, count: int) -> None:
    """One line for each strategy."""
    # Not measured here: a process begins with the peak memory of the one that starts it.
    fastest = 0.0
    print(f"{count} sites{'':<11}{'peak MB':>10}{'seconds':>10}{'on the clock':>14}{'GB/s':>7}{'of bandwidth':>14}")
    for name in (READING, *strategy_names()):
        try:
            found = measure(name, folder, count)
        except subprocess.CalledProcessError:
            print(f"{name:<20} failed")
            continue
        fastest, speed = fastest or found.bandwidth, found.size / found.seconds
        print(
            f"{name:<20}{found.peak / 1e6:>7,.0f}{found.seconds:>10.2f}{found.clock:>14.2f}{speed / 1e9:>7.2f}"
            f"{speed / fastest:>14.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
