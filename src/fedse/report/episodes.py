"""The held-out episodes of runs, before and after evolution, as data for the page's browser."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from fedse.report.study import Study
from fedse.results.groups import Group
from fedse.results.reading import Run
from fedse.texts import counted
from fedse.types import Trajectory, Turn

#: Tasks shown of one environment in one run, at most.
MOST_TASKS = 60
#: Characters that all episodes of a page may have, so that a telephone can hold them.
MOST_CHARACTERS = 12_000_000
_LONGEST_TEXT = 6000
#: An episode as plain data; without its token ids, of which there are too many to keep for all runs at once.
_Episode = Mapping[str, Any]
#: Name of a task, the episode before and the one after.
_Entry = tuple[str, _Episode | None, _Episode | None]


@dataclass(frozen=True)
class _Place:
    """One environment of one run whose episodes are there."""

    group: Group
    run: Run
    environment: str
    site: str

    @property
    def rounds(self) -> tuple[int, int]:
        """The first and the last that were evaluated."""
        return self.run.evaluated[0], self.run.evaluated[-1]

    def has_round(self, number: int) -> bool:
        return self.run.has_episodes("held-out", self.site, number)


@dataclass(frozen=True)
class _Shelf:
    """A place with its first tasks, and how many there are."""

    place: _Place
    entries: Sequence[_Entry]
    total: int


class _Pool(dict[str, int]):
    """Values that occur often, each once, numbered in the order of their first appearance."""

    def number(self, value: str) -> int:
        return self.setdefault(value, len(self))


@dataclass(frozen=True)
class EpisodeData:
    """What the browser shows.

    Attributes:
        packed: JSON, compressed by gzip, in base64; empty where nothing is shown.
        shown: tasks of each environment that are on the page, at most; 0 where not one fits.
        left_out: shelves (environments of runs) that have more tasks than the page.
    """

    packed: str
    shown: int
    left_out: int


def episode_data(study: Study, *, budget: int) -> EpisodeData:
    """The episodes for the browser, in about ``budget`` bytes; with 0 or less no file is read.

    All shelves, one for each environment of each run, give the same number of tasks: the first ones in the order of
    evaluation, as many as fit, at most :data:`MOST_TASKS`.  Nothing is chosen by its outcome, and a task is there for
    every method and seed.  Of ablations there is the first run only.

    The packed JSON has ``preferred``, the method to begin with; ``shelves``, each with ``method``, ``seed``,
    ``environment``, ``rounds``, ``total`` (tasks there are) and ``pairs`` (name of the task, numbers of the episodes
    before and after; −1 for none); ``episodes``; and ``texts``, which episodes name by their number.

    Raises:
        RunError, StorageError: if a file of episodes is damaged or cannot be read.
    """
    places = list(_places(study))
    if budget <= 0:
        return EpisodeData("", 0, len(places))
    shelves = [shelf for place in places if (shelf := _shelf(place))]
    packer = _Packer(budget)
    columns = zip_longest(*(shelf.entries for shelf in shelves))
    shown = sum(1 for _ in takewhile(packer.take, columns))
    if not shown:
        return EpisodeData("", 0, len(shelves))
    heads = []
    for shelf, pairs in zip(shelves, packer.pairs(len(shelves)), strict=True):
        place = shelf.place
        where = {"method": place.group.label, "seed": place.run.config.seed, "environment": place.environment}
        heads.append({**where, "rounds": place.rounds, "total": shelf.total, "pairs": pairs})
    preferred = next(iter(study.references.values())).label if study.references else ""
    content = {"preferred": preferred, "shelves": heads, **packer.tables()}
    packed = base64.b64encode(gzip.compress(_json(content).encode(), mtime=0)).decode()
    return EpisodeData(packed, shown, sum(shelf.total > shown for shelf in shelves))


class _Packer:
    """Takes tasks, of all shelves at once, until the budget is spent."""

    def __init__(self, budget: int) -> None:
        self._texts, self._episodes = _Pool(), _Pool()
        self._rows: list[list[tuple[str, int, int] | None]] = []
        self._compressor = zlib.compressobj(6)
        self._budget = budget * 3 // 4  # base64 makes four bytes of three
        self._characters = MOST_CHARACTERS
        self._sizes = (0, 0)

    def take(self, entries: Sequence[_Entry | None]) -> bool:
        """Take the next task of every shelf that has one, or none if that is more than the budget."""
        row = [entry and (entry[0], self._number(entry[1]), self._number(entry[2])) for entry in entries]
        added = _json([row, list(self._texts)[self._sizes[0] :], list(self._episodes)[self._sizes[1] :]])
        packed = self._compressor.compress(added.encode()) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._budget -= len(packed)
        self._characters -= len(added)
        if self._budget < 0 or self._characters < 0:
            return False
        self._rows.append(row)
        self._sizes = len(self._texts), len(self._episodes)
        return True

    def pairs(self, shelves: int) -> list[list[tuple[str, int, int]]]:
        """Shelf by shelf the tasks that were taken."""
        return [[entry for row in self._rows if (entry := row[at])] for at in range(shelves)]

    def tables(self) -> dict[str, Any]:
        """What the numbers stand for."""
        return {
            "texts": list(self._texts)[: self._sizes[0]],
            "episodes": [json.loads(text) for text in list(self._episodes)[: self._sizes[1]]],
        }

    def _number(self, episode: _Episode | None) -> int:
        if episode is None:
            return -1
        numbered = dict(episode)
        numbered |= {name: self._text(episode[name]) for name in ("instruction", "final", "error")}
        numbered["turns"] = [[*map(self._text, turn[:-1]), turn[-1]] for turn in episode["turns"]]
        return self._episodes.number(_json(numbered))

    def _text(self, text: str) -> int:
        rest = len(text) - _LONGEST_TEXT
        return self._texts.number(
            text if rest <= 0 else f"{text[:_LONGEST_TEXT]} … ({counted(rest, 'more character')})"
        )


def _places(study: Study) -> Iterator[_Place]:
    """A site may keep its episodes to itself."""
    ablations = {group.label for group in study.ablations}
    seen: set[Path] = set()
    for group in study.groups:
        for run in group.counted[: 1 if group.label in ablations else None]:
            if run.evaluated and run.folder not in seen:
                seen.add(run.folder)
                places = (_Place(group, run, *played) for played in run.evaluators.items())
                yield from (place for place in places if any(map(place.has_round, place.rounds)))


def _shelf(place: _Place) -> _Shelf | None:
    first, last = place.rounds
    before = _by_task(place, first)
    after = _by_task(place, last) if last > first else {}
    tasks = list(dict.fromkeys([*before, *after]))
    entries = [(task, before.get(task), after.get(task)) for task in tasks[:MOST_TASKS]]
    return _Shelf(place, entries, len(tasks)) if tasks else None


def _by_task(place: _Place, number: int) -> dict[str, _Episode]:
    """Task, and which sample of it from the second on → episode, of one round."""
    episodes: dict[str, _Episode] = {}
    samples: Counter[str] = Counter()
    for trajectory in place.run.episodes("held-out", place.site, number) if place.has_round(number) else ():
        task = trajectory.task.id
        samples[task] += 1
        name = task if samples[task] == 1 else f"{task}, sample {samples[task]}"
        episodes[name] = _plain(trajectory)
    return episodes


def _json(content: object) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _plain(trajectory: Trajectory) -> _Episode:
    """What the page shows of an episode; ``tokens`` are their number and the bounds of the agent's spans."""
    record = trajectory.tokens
    return {
        "outcome": {None: "fault", True: "success", False: "failure"}[trajectory.success],
        "stop": trajectory.stop.value,
        "reward": f"{trajectory.reward:g}",
        "instruction": trajectory.instruction,
        "turns": [_turn(turn) for turn in trajectory.turns],
        "final": trajectory.final_observation,
        "error": trajectory.error,
        "tokens": None if record is None else [len(record.ids), *(bound for span in record.spans for bound in span)],
    }


def _turn(turn: Turn) -> tuple[str, str, str, int]:
    """Observation, thought, action, and whether the response was cut."""
    thought, mark, action = turn.response.partition("Action:")
    return turn.observation, thought, mark + action, int(turn.truncated)
