"""The same run twice, whole and killed again and again: python killed_run.py CONFIG WHOLE KILLED SEED.

One process loads the libraries; its children run the federation.  In the folder KILLED each child is ended by SIGKILL
at a random moment, and the next one resumes, until one comes to the end by itself.  Prints how many were killed.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import scipy.stats  # noqa: F401  # imported once here rather than once in every child
import torch

from fedse.config import RunConfig
from fedse.federation.run import run
from fedse.progress import Event
from fedse.settings import load_config


def start(config: RunConfig, folder: Path) -> tuple[int, int]:
    """A child that runs the federation: its process id, and a pipe from which comes a byte for every event."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        run(config, folder, resume=True, listener=functools.partial(_tell, writing))
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def _tell(pipe: int, event: Event) -> None:
    os.write(pipe, b".")


def main(config: RunConfig, whole: Path, killed: Path, moments: random.Random) -> int:
    child, events = start(config, whole)
    while os.read(events, 100):
        pass
    os.waitpid(child, 0)
    kills = 0
    while True:
        child, events = start(config, killed)
        # Events rather than seconds, or on a slow machine no child would come further than the one before.
        for _ in range(moments.randint(3, 20)):
            os.read(events, 1)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.close(events)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(kills)
            return os.WEXITSTATUS(status)
        kills += 1


if __name__ == "__main__":
    torch.set_num_threads(1)  # children of a process with several could wait for threads that were not forked
    file, first, second, seed = sys.argv[1:]
    sys.exit(main(load_config(None, Path(file), []), Path(first), Path(second), random.Random(int(seed))))
