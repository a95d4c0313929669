"""Trust by direction: an update counts by its cosine to what most sites agree on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.stepping import Central, counted
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class Trust(Central):
    """FLTrust without data at the server: Σ t_k L / ‖D_k‖ · D_k / Σ t_k with t_k = max(0, cos(D_k, M)).

    M is the coordinate-wise median of the changes, and L the median of their lengths: the server trusts no direction of
    its own, and all changes come to one length.  Where all t_k are 0 nothing moves.  The numbers ``_counts/<site>`` of
    the state have the t_k of the round.

    A change against the others gets 0.  One without a direction, such as noise, is only made as short as the others.
    The more orthogonal honest updates are, the less M says: the flipped change of a site that nobody agrees with anyway
    looks like any other.

    Sent and returned: both factors.  Cost: O(K·P) and a median for each of P coordinates.
    """

    name: ClassVar[str] = "trust"
    citation: ClassVar[str] = "FLTrust: Cao et al. 2021, arXiv 2012.13995; the median in the place of a root set: fedse"

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The trusted changes, all of one length."""
        stack = Stack(start, updates)
        count = len(stack.sites)
        inner, squares, square = np.zeros(count), np.zeros(count), 0.0
        for _, deltas in stack.parts():
            middle = np.median(deltas, axis=0)
            inner += deltas @ middle
            squares += np.square(deltas).sum(axis=1)
            square += float(middle @ middle)
        lengths = np.sqrt(squares)
        scale = lengths * np.sqrt(square)
        trust = np.divide(np.maximum(inner, 0.0), scale, out=np.zeros(count), where=scale > 0)
        weights = np.divide(trust * np.median(lengths), lengths, out=np.zeros(count), where=lengths > 0)
        if trust.any():
            weights /= trust.sum()
        told = counted(dict(zip(stack.sites, trust.tolist(), strict=True)))
        return replace(state, adapters={GLOBAL: stack.weighted(weights)}, numbers=told)
