"""All fault drills, over real processes on this machine; prints the table of docs/faults.md.

    python scripts/drills.py            # some ten minutes on two cores
    python scripts/drills.py site_hangs network_cut

Exit code 1 if one of them does not end as it should.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fedse.errors import RunError
from fedse.results.formatting import markdown_table
from helpers.drills import DRILLS, Bench, CannotDrillError


def main(names: list[str]) -> int:
    """Returns: the exit code."""
    rows: list[tuple[str, ...]] = []
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="fedse-") as folder:
        bench = Bench(Path(folder))
        _ = bench.whole, bench.alone  # the undisturbed runs are no part of a drill's time
        for drill in [drill for drill in DRILLS if drill.__name__ in names or not names]:
            began = time.monotonic()
            try:
                found = drill(bench)
            except CannotDrillError as reason:
                rows.append((drill.__name__, "", str(reason), "not drilled", ""))
                continue
            except (AssertionError, RunError) as failure:
                wrong += 1
                print(failure, file=sys.stderr)
                rows.append((drill.__name__, "", str(failure).splitlines()[0], "no", ""))
                continue
            seconds = f"{time.monotonic() - began:.0f}"
            rows += [(one.fault, one.done, one.happened, "yes", "" if at else seconds) for at, one in enumerate(found)]
    print(markdown_table(("fault", "what is done", "what happens", "right at the end", "s"), rows, numbers_from=4))
    print(f"\n{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}.")
    return 1 if wrong else 0


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())  # drills are for Linux
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
