"""The sites of a run that live in one process: bytes of an instruction in, bytes of a reply out."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from fedse.config import RunConfig
from fedse.errors import FedseError
from fedse.messages import Instruction, Refused, Reply
from fedse.models.base import arithmetic
from fedse.progress import Listener
from fedse.provenance import software
from fedse.runs.layout import RunFolder
from fedse.sites.channel import SiteChannel
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Site


class SiteHost:
    """Sites that take turns on one frozen base model.

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
        host, channel = self._sites[site], self._channels[site]
        self.failure = None
        try:
            instruction = channel.decode(data)
            return channel.encode(instruction, host.answer(instruction))
        except FedseError as error:
            instruction = Instruction.outline(data)
            self.failure = error
            words = str(error) if "errors_in_words" in host.disclosed else ""
            refused = Refused(reason=type(error).__name__, words=words)
            return Reply.to(instruction, refused).encode()


def versions(config: RunConfig) -> dict[str, str]:
    """Name → version of what makes the numbers of a run on this machine."""
    return software() | {"arithmetic": arithmetic(config.model)}
