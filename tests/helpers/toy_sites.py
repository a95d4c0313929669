"""One site by itself, asked as a server asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.messages import Instruction, Purpose, Rates, Reply, Update
from fedse.progress import Listener, Phase, silent
from fedse.rollout.together import alone
from fedse.runs.layout import RunFolder
from fedse.runs.phases import PhaseReport, completed
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Site
from fedse.types import Trajectory


class AskedSite:
    """The first site of a run, with what its tests ask it most."""

    def __init__(self, config: RunConfig, shared: SharedModel, folder: Path, listener: Listener = silent) -> None:
        self.name = next(iter(config.sites))
        self.player = shared.player
        self.site = Site(config, self.name, shared, RunFolder(folder), listener=listener)

    def ask(self, purpose: Purpose, number: int = 0, **fields: Any) -> Reply:
        instruction = Instruction(site=self.name, purpose=purpose, round=number, **fields)
        work = self.site.answer(Instruction.decode(instruction.encode()))
        return Reply.decode(alone(self.player, work).encode())

    def check(self, **fields: Any) -> None:
        self.ask(Purpose.CHECK, **fields)

    def demonstrate(self, **fields: Any) -> dict[str, Any]:
        """What it tells of its demonstrations, but for seconds."""
        reply = self.ask(Purpose.DEMONSTRATE, **fields)
        [phases] = reply.report.phases.values()
        return {key: value for key, value in phases[Phase.DEMONSTRATE].metrics().items() if key != "seconds"}

    def round(self, number: int, adapter: AdapterState, **fields: Any) -> Update:
        answer = self.ask(Purpose.ROUND, number, adapter=adapter, **fields).answer
        assert isinstance(answer, Update)
        return answer

    def evaluate(self, number: int, adapter: AdapterState, environment: str = "", **fields: Any) -> Rates:
        environment = environment or self.name
        answer = self.ask(Purpose.EVALUATE, number, adapter=adapter, environment=environment, **fields).answer
        assert isinstance(answer, Rates)
        return answer

    def experience(self, number: int) -> list[Trajectory]:
        """What it trains on in a round."""
        return [found for own in self.site._environments.values() for found in own.experience(number)]


def reports(folder: Path, number: int, name: str = "alpha") -> dict[Phase, PhaseReport]:
    """The phases of a round that are complete at a site with one environment."""
    environment = RunFolder(folder).site(name).environment(name)
    markers = {phase: environment.marker(number, phase) for phase in Phase}
    return {phase: completed(marker) for phase, marker in markers.items() if marker.exists()}
