"""Where things lie in a run folder.

    config.yaml                                  the resolved configuration; runs the same run again
    versions.json                                of Python, fedse, the libraries, and the arithmetic; if they changed,
                                                 from which round on
    metrics.jsonl                                one round per line, from round 0 (before the first)
    rounds/000/global/                           the initial adapter
    rounds/001/clients/<client>/                 what a client sent, or, where sites are isolated, goes on from
    rounds/001/global/                           the adapter after the round; not where sites are isolated
    rounds/001/pooled.json                       the update on all sites' experience is complete, with its metrics; only
                                                 where experience is pooled
    clients/<client>/experience.sqlite           the site's private experience
    clients/<client>/trajectories/round-001.jsonl.gz
    clients/<client>/evaluation/round-001.jsonl.gz
    clients/<client>/transfer/round-001-<other>.jsonl.gz    held-out episodes with the adapter of another, isolated site
    clients/<client>/phases/round-001-explore.json     a phase that is complete, with its metrics
    clients/<client>/phases/round-001-evaluate-<other>.json
    exchange.json                                only in a packed run: what reports tell of its adapters

Adapters are peft folders.  What lies under ``clients`` never leaves its site.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedse.config import Sharing
from fedse.progress import Phase


@dataclass(frozen=True)
class RunLayout:
    """Paths below a run folder; nothing is created by asking for one."""

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
        return self.root / "run.lock"

    @property
    def exchange(self) -> Path:
        """What was computed from adapters that a packed run goes without."""
        return self.root / "exchange.json"

    def global_adapter(self, round: int) -> Path:
        """The global adapter after a round; 0 is the initial one."""
        return self._round(round) / "global"

    def update(self, round: int, client: str) -> Path:
        """The adapter that a client sent in a round."""
        return self._round(round) / "clients" / client

    def site_adapter(self, round: int, client: str, sharing: Sharing) -> Path:
        """The adapter that a client has after a round: its own where sites are isolated, else the global one."""
        isolated = sharing == "isolated" and round > 0
        return self.update(round, client) if isolated else self.global_adapter(round)

    def pooled(self, round: int) -> Path:
        """Written when the update on all sites' experience is complete."""
        return self._round(round) / "pooled.json"

    def experience(self, client: str) -> Path:
        """The client's experience store."""
        return self._client(client) / "experience.sqlite"

    def trajectories(self, client: str, round: int) -> Path:
        """All episodes that a client explored in a round, kept or not; round 0 holds the demonstrations."""
        return self._client(client) / "trajectories" / f"round-{round:03d}.jsonl.gz"

    def evaluation(self, client: str, round: int) -> Path:
        """The client's held-out episodes with the adapter that it has after a round."""
        return self._client(client) / "evaluation" / f"round-{round:03d}.jsonl.gz"

    def transfer(self, client: str, round: int, other: str) -> Path:
        """The client's held-out episodes with the adapter of another site after a round."""
        return self._client(client) / "transfer" / f"round-{round:03d}-{other}.jsonl.gz"

    def marker(self, client: str, round: int, phase: Phase) -> Path:
        """Written when a client's phase is complete."""
        return self._client(client) / "phases" / f"round-{round:03d}-{phase.value}.json"

    def transfer_marker(self, client: str, round: int, other: str) -> Path:
        """Written when the client's evaluation of another site's adapter is complete."""
        return self._client(client) / "phases" / f"round-{round:03d}-{Phase.EVALUATE.value}-{other}.json"

    def _round(self, round: int) -> Path:
        return self.root / "rounds" / f"{round:03d}"

    def _client(self, client: str) -> Path:
        return self.root / "clients" / client
