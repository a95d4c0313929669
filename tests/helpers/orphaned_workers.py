"""A run whose process kills itself while its workers work: python orphaned_workers.py CONFIG FOLDER.

Prints their numbers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

from fedse.federation.run import run
from fedse.progress import Event
from fedse.settings import load_config


def die(event: Event) -> None:
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run(load_config(None, Path(sys.argv[1]), []), Path(sys.argv[2]), listener=die)
