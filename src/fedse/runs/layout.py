"""Where things lie in a run folder.

    server/config.yaml                           the resolved configuration; runs the same run again
    server/server.lock                           held by the process that works in the folder
    server/versions.json                         of Python, fedse, the libraries and the arithmetic; if they changed,
                                                 from which round on
    server/metrics.jsonl                         one round per line, from round 0 (before the first)
    server/rounds/001/global/                    the adapter after the round, if one serves all sites
    server/rounds/001/adapters/<name>/           further adapters of the strategy's state, as those of single sites
    server/rounds/001/state.json                 which adapters the state has, and its numbers
    server/rounds/001/state.safetensors          its other tensors, if any
    server/rounds/001/replies/<site>             the bytes that a site sent
    server/rounds/001/told.json                  what the sites told; the round's record has it when it is evaluated
    server/rounds/001/changes/<name>             an adapter of the state as its change in the round, as it is sent
    server/rounds/001/exchange.json              which adapter each site has at the end of the round, and how many bytes
                                                 brought it there
    server/exchange.json                         only in a packed run: what reports tell of its adapters
    sites/<site>/adapters/001/                   the adapter that the site trained; the last two are kept
    sites/<site>/received/                       the last two adapters that the site was sent
    sites/<site>/residuals/001.safetensors       what rounding lost of the update that the site sent; the last two
    sites/<site>/controls/001.safetensors        the mean gradient of the update, with SCAFFOLD; the last two
    sites/<site>/phases/round-001-train.json     a phase that is complete, with its metrics
    sites/<site>/experience.sqlite               the site's private experience
    sites/<site>/trajectories/round-001.jsonl.gz
    sites/<site>/evaluation/round-001.jsonl.gz
    sites/<site>/transfer/round-001-<owner>.jsonl.gz    held-out episodes with the adapter of another site
    logs/                                        what ``--log-to`` writes unless it is told another place
    endpoint/                                    adapters for an inference server that plays; only while it does

Environments of other names than their site have the last four below ``environments/<environment>/``.  Adapters are peft
folders.  ``server/`` and each ``sites/<site>/`` may lie on machines of their own.  What lies below ``sites/<site>``
never leaves the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedse.config import ClientConfig
from fedse.progress import Phase


@dataclass(frozen=True)
class ServerFolder:
    """Paths of the server; nothing is created by asking for one."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def versions(self) -> Path:
        """Versions of the software that did the run."""
        return self.root / "versions.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per round."""
        return self.root / "metrics.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the process that works in the folder."""
        return self.root / "server.lock"

    @property
    def exchange(self) -> Path:
        """What was computed from adapters that a packed run goes without."""
        return self.root / "exchange.json"

    def round(self, number: int) -> Path:
        """All that the server keeps of a round; 0 is the beginning."""
        return self.root / "rounds" / f"{number:03d}"

    def global_adapter(self, number: int) -> Path:
        """The global adapter after a round; 0 is the initial one."""
        return self.round(number) / "global"

    def reply(self, number: int, site: str) -> Path:
        """The bytes that a site sent in a round."""
        return self.round(number) / "replies" / site

    def change(self, number: int, name: str) -> Path:
        """The change of an adapter of the state in a round, as it is sent."""
        return self.round(number) / "changes" / name


@dataclass(frozen=True)
class SiteFolder:
    """Paths of a site; nothing is created by asking for one."""

    root: Path

    def adapter(self, number: int) -> Path:
        """The adapter that the site trained in a round."""
        return self.root / "adapters" / f"{number:03d}"

    @property
    def received(self) -> Path:
        """The adapters that the site was sent last."""
        return self.root / "received"

    @property
    def residuals(self) -> Path:
        """What rounding lost of the updates that the site sent last."""
        return self.root / "residuals"

    def control(self, number: int) -> Path:
        """The mean gradient of the site's update in a round."""
        return self.root / "controls" / f"{number:03d}.safetensors"

    def marker(self, number: int, phase: Phase) -> Path:
        """Written when a phase of the whole site is complete."""
        return _marker(self.root, number, phase.value)

    def environment(self, name: str) -> EnvironmentFolder:
        """What the site keeps of one environment; at its root if the environment has the site's name."""
        return EnvironmentFolder(self.root if name == self.root.name else self.root / "environments" / name)


@dataclass(frozen=True)
class EnvironmentFolder:
    """Paths of one environment at a site; nothing is created by asking for one."""

    root: Path

    @property
    def experience(self) -> Path:
        """The experience store."""
        return self.root / "experience.sqlite"

    def trajectories(self, number: int) -> Path:
        """All episodes that were explored in a round, kept or not; round 0 holds the demonstrations."""
        return self.root / "trajectories" / f"round-{number:03d}.jsonl.gz"

    def marker(self, number: int, phase: Phase) -> Path:
        """Written when a phase is complete."""
        return _marker(self.root, number, phase.value)

    def evaluation(self, number: int, owner: str = "") -> Path:
        """Held-out episodes with the adapter after a round: the site's, or that of another site, its owner."""
        if owner:
            return self.root / "transfer" / f"round-{number:03d}-{owner}.jsonl.gz"
        return self.root / "evaluation" / f"round-{number:03d}.jsonl.gz"

    def evaluation_marker(self, number: int, owner: str = "") -> Path:
        """Written when an evaluation is complete."""
        return _marker(self.root, number, f"{Phase.EVALUATE.value}-{owner}" if owner else Phase.EVALUATE.value)


@dataclass(frozen=True)
class RunFolder:
    """A run whose server and sites are on one machine; nothing is created by asking for a path."""

    root: Path

    @property
    def server(self) -> ServerFolder:
        """The server's folder."""
        return ServerFolder(self.root / "server")

    @property
    def sites(self) -> Path:
        """Has the folders of the sites."""
        return self.root / "sites"

    @property
    def endpoint(self) -> Path:
        """In which an inference server finds the adapters that it plays with."""
        return self.root / "endpoint"

    @property
    def logs(self) -> Path:
        """The metrics for TensorBoard, MLflow and Weights & Biases, and the key by which they tell the run."""
        return self.root / "logs"

    def site(self, name: str) -> SiteFolder:
        """A site's folder."""
        return SiteFolder(self.sites / name)

    def environment(self, client: ClientConfig) -> EnvironmentFolder:
        """What a site keeps of one environment."""
        return self.site(client.at).environment(client.name)


def _marker(root: Path, number: int, what: str) -> Path:
    return root / "phases" / f"round-{number:03d}-{what}.json"
