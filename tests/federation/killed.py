"""A run that is killed again and again: python killed.py FOLDER CONFIG SEED.

One process loads the libraries; its children run the federation, each until SIGKILL ends it at a random moment, and the
next one resumes, until one comes to the end by itself.  Prints how many were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import scipy.stats  # noqa: F401  # imported once here rather than once in every child
import torch

from fedse.federation.runtimes.in_process import run
from fedse.settings import load_config


def main(folder: Path, config_file: Path, seed: int) -> None:
    torch.set_num_threads(1)
    config = load_config(None, config_file, [])
    moments = random.Random(seed)
    killed = 0
    while True:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                run(config, folder, resume=True, listener=lambda event: os.write(writing, b"."))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        os.close(writing)
        # Events rather than seconds, or on a slow machine no child would come further than the one before.
        for _ in range(moments.randint(3, 30)):
            os.read(reading, 1)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.close(reading)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(killed)
            sys.exit(os.WEXITSTATUS(status))
        killed += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
