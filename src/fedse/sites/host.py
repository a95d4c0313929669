"""The sites of a run that live in one process: bytes of an instruction in, bytes of a reply out."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedse.config import RunConfig
from fedse.errors import FedseError
from fedse.messages import Instruction, Refused, Reply
from fedse.models.base import arithmetic
from fedse.progress import Listener
from fedse.provenance import software
from fedse.rollout.together import own_seconds, together
from fedse.runs.layout import RunFolder
from fedse.sites.channel import SiteChannel
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Site


@dataclass(frozen=True, slots=True)
class Answered:
    """A site's reply to one of several instructions.

    Attributes:
        index: of the instruction.
        reply: its bytes.
        failure: the error behind it, if it is a refusal.  It stays on this machine.
        seconds: that the site took, without those in which others went on.
    """

    index: int
    reply: bytes
    failure: FedseError | None
    seconds: float


class SiteHost:
    """Sites that share one frozen base model: they play together and take turns in training.

    Args:
        config: the run.
        folder: of the run; each site touches its own part alone.
        listener: told of progress.
        baselines: see :class:`fedse.sites.site.Site`.
        sites: names of the sites that live here; default: all.

    Attributes:
        failure: the error behind the last reply, if that was a refusal.  It stays on this machine.

    Raises:
        ModelError, AdapterError: if the base model cannot be loaded or adapted.
        ConfigError, UnknownNameError, EnvironmentFault: if a site cannot be set up.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        *,
        listener: Listener,
        baselines: Iterable[Path] = (),
        sites: Iterable[str] | None = None,
    ) -> None:
        shared = SharedModel.load(config, folder=folder.endpoint)
        self._player = shared.player
        names = config.sites if sites is None else sites
        self._sites = {
            name: Site(config, name, shared, folder, listener=listener, baselines=baselines) for name in names
        }
        initial = functools.cache(lambda: shared.initial_adapter(config))
        self._channels = {name: SiteChannel(folder.site(name), initial) for name in self._sites}
        self.failure: FedseError | None = None

    def answer(self, site: str, data: bytes) -> bytes:
        """A site's reply to an instruction; a refusal where an error stops it.

        Raises:
            MessageError: if these bytes are no instruction.
        """
        [answered] = self.answer_all([(site, data)])
        self.failure = answered.failure
        return answered.reply

    def answer_all(self, asked: Sequence[tuple[str, bytes]]) -> Iterator[Answered]:
        """Replies to several instructions, as they come; what sites play with the same adapter is played in one batch.

        Args:
            asked: (site, bytes of an instruction).

        Raises:
            MessageError: if bytes are no instruction.
        """
        works = [self._answer(index, site, data) for index, (site, data) in enumerate(asked)]
        for _, answered in together(self._player, works):
            yield answered

    async def _answer(self, index: int, site: str, data: bytes) -> Answered:
        host, channel, began = self._sites[site], self._channels[site], own_seconds()
        failure: FedseError | None = None
        try:
            instruction = channel.decode(data)
            reply = channel.encode(instruction, await host.answer(instruction))
        except FedseError as error:
            failure = error
            words = str(error) if "errors_in_words" in host.disclosed else ""
            refused = Refused(reason=type(error).__name__, words=words)
            reply = Reply.to(Instruction.outline(data), refused).encode()
        return Answered(index, reply, failure, own_seconds() - began)


def versions(config: RunConfig) -> dict[str, str]:
    """Name → version of what makes the numbers of a run on this machine."""
    return software() | {"arithmetic": arithmetic(config.model)}
