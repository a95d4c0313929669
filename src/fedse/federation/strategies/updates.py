"""The updates of a round, one at a time: what a server holds does not grow with the number of sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Self

from fedse.messages import Update


class Updates(Mapping[str, Update]):
    """Site → its update, in the order of the sites' names.

    An update is loaded each time it is asked for, and is not kept.  Go over them once, and hold one at a time.

    Args:
        scalars: site → the scalars of its update, for every site that sent one.
        load: gives the update of a site.

    Attributes:
        scalars: of all sites, in the order of their names; looking at them loads no update.
    """

    def __init__(self, scalars: Mapping[str, Mapping[str, float]], load: Callable[[str], Update]) -> None:
        self.scalars: Mapping[str, Mapping[str, float]] = {site: scalars[site] for site in sorted(scalars)}
        self._load = load

    @classmethod
    def of(cls, updates: Mapping[str, Update]) -> Self:
        """Updates that are in memory."""
        return cls({site: update.scalars for site, update in updates.items()}, updates.__getitem__)

    def __getitem__(self, site: str) -> Update:
        """The update of a site, loaded anew.

        Raises:
            KeyError: if the site sent none.
        """
        if site not in self.scalars:
            raise KeyError(site)
        return self._load(site)

    def __contains__(self, site: object) -> bool:
        """Whether the site sent an update; loads none."""
        return site in self.scalars

    def __iter__(self) -> Iterator[str]:
        """The sites that sent an update, sorted."""
        return iter(self.scalars)

    def __len__(self) -> int:
        """The number of sites that sent an update."""
        return len(self.scalars)
