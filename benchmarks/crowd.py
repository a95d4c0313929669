"""Peak memory of a server's rounds with many sites, in proportion to ten.

    python benchmarks/crowd.py [--most 1000] [--rounds 2] [--codec bf16]

The whole round loop runs: instructions are encoded, replies decoded, screened, written to disk, absorbed.  The adapters
have the shape of the nano model's at rank 16 (1.4 MB of float32).  The sites are one object that answers for all of
them and keeps nothing of its own, so what grows is the server's.  Each number of sites has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from fedse.adapters.deltas import tell
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.federation.runtimes import InTurns
from fedse.federation.server import Server
from fedse.messages import Done, Instruction, Purpose, Rates, Reply, Update
from fedse.messages.wire import Delta
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.progress import silent
from fedse.runs.layout import ServerFolder
from fedse.seeding import numpy_generator

FEW = 10
CHANGE = 1e-3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--codec", default="bf16")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"{'sites':>7} {'peak MB':>8} {'of ten':>7} {'seconds a round':>16}")
    first = 0.0
    count = FEW
    while count <= arguments.most:
        results = context.Queue()
        process = context.Process(target=measure, args=(count, arguments.rounds, arguments.codec, results))
        process.start()
        peak, seconds = results.get()
        process.join()
        first = first or peak
        print(f"{count:>7} {peak:>8.0f} {peak / first:>7.2f} {seconds:>16.2f}", flush=True)
        count *= 10


def measure(count: int, rounds: int, codec: str, results: multiprocessing.Queue[tuple[float, float]]) -> None:
    """Run, and tell peak memory in MB and seconds of a round."""
    names = [f"site-{number:05}" for number in range(count)]
    data = {
        "rounds": rounds,
        "model": {"name": "nano"},
        "lora": {"rank": 16, "alpha": 32},
        "clients": [{"name": name, "environment": "maze"} for name in names],
        "exchange": {"codec": codec},
        "evaluation": {"every": 0},
    }
    config = RunConfig.model_validate(data)
    crowd = Crowd(LoraModel(load_base(config.model), config.lora).initial_state(0))
    with tempfile.TemporaryDirectory() as folder:
        root = ServerFolder(Path(folder, "run"))
        root.root.mkdir()
        began = time.monotonic()
        Server(config, root, crowd, listener=silent).run()
        seconds = time.monotonic() - began
    results.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds / rounds))


class Crowd(InTurns):
    """All sites; what they were sent last is what all have."""

    def __init__(self, initial: AdapterState) -> None:
        self._initial = initial
        self._known = {initial.digest: initial}

    def answer(self, site: str, data: bytes) -> bytes:
        """The reply of a site."""
        asked = Instruction.decode(data, self._known.get)
        match asked.purpose:
            case Purpose.INITIAL:
                return Reply.to(asked, Update(adapter=self._initial)).encode()
            case Purpose.EVALUATE:
                return Reply.to(asked, Rates(successes=1, episodes=2, errors=0, low=0.1, high=0.9)).encode()
            case Purpose.ROUND if asked.adapter is not None and asked.codec is not None:
                sent = asked.adapter
                self._known = {self._initial.digest: self._initial, sent.digest: sent}
                noise = numpy_generator(site, asked.round)
                trained = AdapterState(
                    {
                        name: array + CHANGE * noise.standard_normal(array.shape, dtype=np.float32)
                        for name, array in sent.tensors.items()
                    },
                    sent.meta,
                )
                told = tell(asked.codec, sent, trained, {})
                reply = Reply.to(asked, Update(adapter=told.adapter))
                return reply.encode({told.adapter.digest: Delta(sent.digest, asked.codec, told.payload)})
        return Reply.to(asked, Done()).encode()


if __name__ == "__main__":
    main()
