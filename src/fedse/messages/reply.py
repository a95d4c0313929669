"""What a site sends back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from fedse.messages.instruction import Instruction, Name, NameOrNone, Owner, Purpose, RunId
from fedse.messages.report import SiteReport
from fedse.messages.wire import Adapter, Packed, Part, Tensors
from fedse.types import SuccessRate

#: What a strategy may ask of a site beside its adapter, and what it is.
SCALARS: Mapping[str, str] = {"examples": "trajectories that the update was trained on"}


class Update(Part):
    """The trained adapter, with what the strategy asked for.

    Attributes:
        adapter: the part that was to be trained, of the tensors that the site was sent.
        scalars: those of the instruction's ``needs``, finite and ≥ 0.
        tensors: further tensors that the strategy asked for.
    """

    kind: Literal["update"] = "update"
    adapter: Adapter
    scalars: Mapping[str, float] = Field(default_factory=dict)
    tensors: Tensors = Field(default_factory=dict)


class Diverged(Part):
    """Training left the finite numbers; there is no update."""

    kind: Literal["diverged"] = "diverged"


class Rates(Part):
    """Success on held-out tasks: successes out of episodes with an outcome, and its 95 % interval."""

    kind: Literal["rates"] = "rates"
    successes: NonNegativeInt
    episodes: NonNegativeInt
    errors: NonNegativeInt
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.successes > self.episodes or self.low > self.high:
            raise ValueError("more successes than episodes, or an interval upside down")
        return self

    @property
    def rate(self) -> SuccessRate:
        """The rate as readers know it."""
        return SuccessRate(self.successes, self.episodes, self.errors, self.low, self.high)


class Refused(Part):
    """The site did not do what it was asked.

    Attributes:
        reason: the class of the error, such as ``EnvironmentFault``.
        words: the error's own words, which may quote an environment; empty unless the site discloses ``errors``.
    """

    kind: Literal["refused"] = "refused"
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}$")]
    words: str = ""


class Done(Part):
    """The site did what it was asked; there is nothing to send but the report."""

    kind: Literal["done"] = "done"


Answer = Update | Diverged | Rates | Refused | Done

#: What a reply repeats of its instruction, so that a late or repeated one is not taken for another.
ECHOED = ("run", "site", "purpose", "round", "environment", "owner")


class Reply(Packed):
    """One reply.

    Attributes:
        site: who sends it.
        run, purpose, round, environment, owner: of the instruction that it answers.
        answer: what was asked for, or why not.
        report: what the site tells beside.
    """

    run: RunId = ""
    site: Name
    purpose: Purpose
    round: NonNegativeInt
    environment: NameOrNone = ""
    owner: Owner = ""
    answer: Annotated[Answer, Field(discriminator="kind")]
    report: SiteReport = SiteReport()

    @classmethod
    def to(cls, instruction: Instruction, answer: Answer, report: SiteReport | None = None) -> Self:
        """The reply to an instruction."""
        echoed = {name: getattr(instruction, name) for name in ECHOED}
        return cls(**echoed, answer=answer, report=report or SiteReport())
