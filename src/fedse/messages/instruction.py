"""What a server sends to a site."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, NonNegativeInt, model_validator

from fedse.adapters.state import AdapterState
from fedse.messages.report import Digest
from fedse.messages.wire import Adapter, Packed, Tensors
from fedse.messages.work import Work
from fedse.types import CodecName

#: Tells the runs of a server apart, where its sites are elsewhere; empty where server and sites share a run folder.
RunId = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
#: The name of a site, and of an environment at a site.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=128)]
#: The same, or empty.  A site's files are called by it, so that it must lead nowhere else.
NameOrNone = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]*)?$", max_length=128)]
#: Also the global adapter, as states name it, is an owner.
Owner = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]*|_global)?$", max_length=128)]


def _is_part(part: tuple[int, int]) -> tuple[int, int]:
    index, count = part
    if index >= count:
        raise ValueError(f"part {index} of {count}")
    return part


_PartOf = Annotated[tuple[NonNegativeInt, NonNegativeInt], AfterValidator(_is_part)]


class Purpose(StrEnum):
    """What a site is asked for."""

    JOIN = "join"  # tell which tasks it has, as digests
    INITIAL = "initial"  # make the adapter that the federation begins with, a function of seed and model
    CHECK = "check"  # say whether it can learn, given which tasks others hold out
    DEMONSTRATE = "demonstrate"  # fill its store with demonstrations
    ROUND = "round"  # explore, select, accumulate, fine-tune
    EVALUATE = "evaluate"  # play held-out tasks


class Instruction(Packed):
    """One instruction; it holds all that the site needs beside its own folder.

    Attributes:
        run: which run it belongs to.
        site: whom it is for.
        purpose: what is asked.
        round: of the federation; an evaluation is that of the adapter after the round.
        adapter: to play with, and to train from unless ``start`` is given.  Tensors that it lacks are the site's own:
            the site takes them from its last adapter, and sends only those back that it was sent.
        start: where the local update begins, if not at ``adapter``.
        tensors: what else the strategy sends to this site.
        work: how the local update is done, and what is sent back of it.
        codec: how the site tells its trained adapter by the one that it began from; by default it sends it whole.
        needs: names of the scalars that the update must carry.
        held_out: digests of tasks that are held out anywhere; see :func:`fedse.messages.report.task_digest`.
        parts: environment → (index, count): the site has this part of the environment's training tasks, where several
            sites divide them; index < count.
        proposal: the run as the server proposes it, to a site that has a configuration of its own; for JOIN.
        environment: which of the site's environments is evaluated.
        owner: whose adapter is evaluated, if not its own: another site's, or the global one.
    """

    run: RunId = ""
    site: Name
    purpose: Purpose
    round: NonNegativeInt = 0
    adapter: Adapter | None = None
    start: Adapter | None = None
    tensors: Tensors = Field(default_factory=dict)
    work: Work = Work()
    codec: CodecName | None = None
    needs: tuple[str, ...] = ()
    held_out: tuple[Digest, ...] = ()
    parts: Mapping[Name, _PartOf] = Field(default_factory=dict)
    proposal: Mapping[str, JsonValue] = Field(default_factory=dict)
    environment: NameOrNone = ""
    owner: Owner = ""

    @model_validator(mode="after")
    def _has_the_part(self) -> Self:
        if self.adapter is not None and (problem := self.work.learned.problem(self.adapter.meta)):
            raise ValueError(problem)
        return self

    @property
    def base(self) -> AdapterState | None:
        """What the update is told by: the part that is trained, where the local update begins."""
        begins = self.start or self.adapter
        return None if begins is None else self.work.trained.of(begins)
