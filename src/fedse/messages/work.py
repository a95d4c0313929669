"""What a strategy asks of a site beside playing and training."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from fedse.adapters.parts import Trained
from fedse.messages.wire import Part


class Work(Part):
    """How a site's local update differs from training the whole adapter, and what it tells beside the result.

    Attributes:
        trained: the part of the adapter that is trained and sent back; the rest is frozen.
        private: indices of components, beside those of ``trained``, that are the site's own: it plays with and trains
            its own, whatever it was sent there, and sends none of them.
        proximal: μ of FedProx: every step is followed by one back to where the update began, by lr·μ of the way.
        moments: also send the second moments of every adapted layer's inputs, as :mod:`fedse.adapters.moments` has
            them: in so many random directions, or seen through the adapter's own A.  0: none.
        control: every gradient is corrected by c − c_k (SCAFFOLD), where the instruction's tensors are c, and c_k is
            the site's own; also send how c_k changed.
    """

    trained: Trained = Trained()
    private: tuple[NonNegativeInt, ...] = ()
    proximal: NonNegativeFloat = 0.0
    moments: Annotated[int, Field(ge=0, le=4096)] | Literal["adapter"] = 0
    control: bool = False

    @property
    def learned(self) -> Trained:
        """The part that is trained: what is sent back, and what is private."""
        ranks = self.trained.ranks
        return self.trained if ranks is None else replace(self.trained, ranks=tuple(sorted(ranks + self.private)))
