"""How many optimizer steps a round a method may take in the time that another one takes.

    python scripts/equal_time.py suites/mine --of fedit --like fed-se

Exploring takes time that a method without it can spend on steps.  The script reads how long the runs of two methods of
a suite took and tells the factor on the optimizer steps that makes their times equal; evaluations count for neither.
With the steps set so, the method has a second place in the suite: see docs/methods.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

from fedse.errors import ConfigError
from fedse.progress import Phase
from fedse.suites import read_suite
from fedse.suites.reading import CellResult


def seconds(cells: Iterable[CellResult], *phases: Phase) -> float:
    """Mean over runs of the seconds that phases took, over all rounds and sites."""
    each = [sum(record.seconds.get(phase.value, 0.0) for record in cell.records for phase in phases) for cell in cells]
    return math.fsum(each) / len(each)


def main() -> None:
    """Print the factor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a suite, with its runs")
    parser.add_argument("--of", default="fedit", help="the method whose steps are sought")
    parser.add_argument("--like", default="fed-se", help="the method whose time is taken")
    options = parser.parse_args()
    results = read_suite(options.folder)
    for model in results.suite.models:
        of, like = (results.done(model.name, method) for method in (options.of, options.like))
        if not of or not like:
            raise ConfigError(
                f"{options.folder} has no finished runs of both methods with {model.name}", "run them first"
            )
        train, theirs = seconds(of, Phase.TRAIN), seconds(like, Phase.EXPLORE, Phase.TRAIN)
        explored = seconds(of, Phase.EXPLORE)
        print(
            f"{model.name}: {options.like} explores and trains for {theirs:.0f} s, {options.of} for "
            f"{explored + train:.0f} s: steps times {(theirs - explored) / train:.2f}"
        )


if __name__ == "__main__":
    main()
