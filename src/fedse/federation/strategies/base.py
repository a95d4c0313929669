"""What a strategy is: how a server makes of its state and the sites' updates the next state.

A strategy is a value without memory: options, and pure functions of a state.  The state
(:class:`fedse.runs.rounds.State`) is written with every round, so that a run resumes with what the strategy knew.
A package adds one with the entry-point group ``fedse.strategies``, or a program with :func:`register`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State
from fedse.types import FloatArray


@dataclass(frozen=True)
class Sent:
    """What a site is sent for a round.

    Attributes:
        adapter: to play with and, without ``start``, to train from.  Tensors that are left out are the site's own: it
            keeps them to itself, and sends only those back that it was sent.
        start: where the local update begins, if not at ``adapter``.
        tensors: further tensors.
        work: how the local update is done, and what is sent back of it.
    """

    adapter: AdapterState
    start: AdapterState | None = None
    tensors: Mapping[str, FloatArray] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    @property
    def base(self) -> AdapterState:
        """Where the update of the part that is trained begins."""
        return self.work.trained.of(self.start or self.adapter)


class Strategy(ABC):
    """Subclass it as a frozen dataclass, whose fields are the strategy's options.

    Class attributes:
        name: as in ``method.strategy``.
        citation: where the method comes from.
        needs: names of the scalars that every update must carry, of :data:`fedse.messages.SCALARS`.
        personal: sites play with adapters of their own, or with private parts, and are evaluated each by itself.
        mixed_ranks: sites may have adapters of different ranks.
        memory: the change in a site's last update may stand in for one that did not come (``exchange.memory``).
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    personal: ClassVar[bool] = False
    mixed_ranks: ClassVar[bool] = False
    memory: ClassVar[bool] = True

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:  # noqa: ARG002
        """The state before the first round.

        Args:
            adapter: the adapter that the federation begins with.
            ranks: site → rank of its adapter.
        """
        return State({GLOBAL: adapter})

    def instruct(self, state: State, site: str) -> Sent:
        """What a site is sent for the next round."""
        return Sent(state.adapter(site))

    @abstractmethod
    def absorb(self, state: State, updates: Updates) -> State:
        """The state after a round: a function of its arguments alone.

        Args:
            state: after the round before.
            updates: site → its update, sound and in the shape of what the site was to train; at least one, in the order
                of the sites' names.  Each is read from disk when it is asked for: hold one at a time, and memory does
                not grow with the number of sites.
        """

    def adapter(self, state: State, site: str = "") -> AdapterState:
        """The adapter that is evaluated and exported: a site's own, or the global one.

        Raises:
            RunError: if there is no such adapter.
        """
        return state.adapter(site)

    def weights(self, scalars: Mapping[str, Mapping[str, float]]) -> Mapping[str, float] | None:  # noqa: ARG002
        """How much each site counts in a mean of the updates' factors, for diagnostics; None if it is no such mean.

        Args:
            scalars: site → the scalars of its update.
        """
        return None

    def begins_at(self, number: int) -> int:
        """The round after which the global adapter was where the local updates of a round begin."""
        return number - 1
