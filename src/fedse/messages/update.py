"""What a site sends of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedse.adapters.state import AdapterState


@dataclass(frozen=True, slots=True)
class ClientUpdate:
    """All that may leave a site: the adapter, and the few scalars the aggregator declares that it needs.

    There is no other channel.  Fed-SE's unweighted mean needs no scalars at all.
    """

    client: str
    round: int
    adapter: AdapterState
    scalars: Mapping[str, float] = field(default_factory=dict)
