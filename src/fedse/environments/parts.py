"""Parts of a world, for sites of one environment that differ: ``2/4`` is the second of four disjoint parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fedse.errors import ConfigError
from fedse.seeding import python_random

_WRITTEN = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})(?:@(0|[1-9][0-9]{0,8}))?")

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True)
class Part:
    """One of several disjoint parts that together are the whole."""

    number: int  #: which one, from 1
    of: int  #: how many there are
    seed: int = 0  #: another seed draws other parts

    def __str__(self) -> str:
        return f"{self.number}/{self.of}" + (f"@{self.seed}" if self.seed else "")

    def choose(self, entries: Sequence[_Entry], *path: str | int) -> list[_Entry]:
        """The entries of this part, in their order; parts differ in size by one at most.

        ``path`` names what is divided, so that different things are divided independently.
        """
        places = list(range(len(entries)))
        python_random("parts", self.seed, *path).shuffle(places)
        return [entries[place] for place in sorted(places[self.number - 1 :: self.of])]


def parse_part(text: object, *, option: str) -> Part:
    """The part that an option's value writes: ``2/4``, or ``2/4@7`` for parts drawn with the seed 7.

    Raises:
        ConfigError: if it writes no part; the message begins with ``option``, such as ``wordle: part must be``.
    """
    match = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError(f"{option} a part such as '2/4', found {text!r}", "the second of four is '2/4'")
    return Part(int(match[1]), int(match[2]), int(match[3] or 0))
