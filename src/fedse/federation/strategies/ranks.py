"""Sites of different ranks: what a strategy keeps of them in its state."""

from __future__ import annotations

from collections.abc import Mapping

from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError


def as_numbers(ranks: Mapping[str, int], adapter: AdapterState) -> dict[str, float]:
    """Site → its rank, for the numbers of a state.

    Raises:
        ConfigError: if a site has more components than the adapter that the federation begins with.
    """
    largest = adapter.meta.rank
    above = ", ".join(f"{site} {rank}" for site, rank in sorted(ranks.items()) if rank > largest)
    if above:
        raise ConfigError(
            f"the adapter that all begin with has rank {largest}, and some sites have more: {above}",
            "set lora.rank to the largest of clients.*.rank, and lora.alpha so that alpha / rank stays",
        )
    return {site: float(rank) for site, rank in sorted(ranks.items())}


def own_components(share: float, rank: int) -> int:
    """How many components of an adapter are a site's own; the others are shared.

    Raises:
        ConfigError: if nothing would be owned, or nothing shared.
    """
    own = round(share * rank)
    if not 0 < own < rank:
        raise ConfigError(
            f"a share of {share} of {rank} components leaves nothing to own, or nothing to share",
            "raise lora.rank, or set method.options.own nearer to 0.5",
        )
    return own
