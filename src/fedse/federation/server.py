"""The server: sees adapters and declared scalars, and nothing else of the sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from fedse.adapters.checks import finite_problems, in_words, meta_problems, shape_problems
from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, UpdateRejectedError
from fedse.federation.aggregation import Aggregator, server_step
from fedse.messages.screening import validate_update
from fedse.messages.update import ClientUpdate

OK = "ok"
MISSING = "missing"
DIVERGED = "diverged"


class Server:
    """Combines the clients' updates round by round.

    Args:
        aggregator: how updates are combined.
        clients: the clients of the run; updates of others are rejected.
        adapter: the global adapter after ``rounds`` rounds.
        server_lr: step on the combined delta; 1 takes the combined adapter as it is.
        rounds: rounds completed so far.
        start: where local updates begin in every round, if that is not the global adapter; the server's step then
            begins there, too.

    Attributes:
        adapter: the global adapter.
        rounds: rounds completed so far.
        outcomes: client → what became of its update in the last round: "ok", "rejected: …", "diverged" or "missing".
    """

    def __init__(
        self,
        aggregator: Aggregator,
        clients: Iterable[str],
        adapter: AdapterState,
        *,
        server_lr: float = 1.0,
        rounds: int = 0,
        start: AdapterState | None = None,
    ) -> None:
        self._aggregator = aggregator
        self._clients = sorted(clients)
        self._server_lr = server_lr
        self._start = start
        self.adapter = adapter
        self.rounds = rounds
        self.outcomes: Mapping[str, str] = {}

    def round(self, updates: Sequence[ClientUpdate], *, diverged: Collection[str] = ()) -> AdapterState:
        """Complete a round: validate every update, combine the sound ones, take the server's step.

        Clients whose update is missing or rejected are left out of this round; :attr:`outcomes` tells of each.

        Args:
            updates: what the clients sent.
            diverged: clients that sent word that their training diverged, in place of an update.

        Returns:
            The new global adapter.

        Raises:
            UpdateRejectedError: if no update can be used; the global adapter then stays as it was.
            AdapterError: if the aggregator's result is not an adapter like the global one.
        """
        accepted = self._screen(updates, diverged)
        if not accepted:
            found = "; ".join(f"{client} {outcome}" for client, outcome in self.outcomes.items())
            raise UpdateRejectedError(
                f"round {self.rounds + 1} has no update that can be used: {found}",
                "begin a new run with a lower training.learning_rate or method.server_lr"
                if DIVERGED in self.outcomes.values()
                else "mend the clients, then redo the round",
            )
        start = self._start or self.adapter
        combined = self._aggregator.combine(start, accepted)
        self._check(combined)
        self.adapter = server_step(start, combined, self._server_lr)
        self.rounds += 1
        return self.adapter

    def _screen(self, updates: Sequence[ClientUpdate], diverged: Collection[str]) -> list[ClientUpdate]:
        """The updates to combine; notes every client's outcome."""
        outcomes = {client: DIVERGED if client in diverged else MISSING for client in self._clients}
        sent = Counter(update.client for update in updates)
        accepted = []
        for update in updates:
            try:
                self._check_sender(update.client, sent[update.client])
                validate_update(update, round=self.rounds + 1, global_=self.adapter, needs=self._aggregator.needs)
            except UpdateRejectedError as reason:
                outcomes[update.client] = f"rejected: {reason.what}"
            else:
                outcomes[update.client] = OK
                accepted.append(update)
        self.outcomes = outcomes
        return accepted

    def _check_sender(self, client: str, times: int) -> None:
        if client not in self._clients:
            raise UpdateRejectedError(f"{client!r} is no client of this run", "check the client's name")
        if times > 1:  # which of them counts must not depend on the order in which they came
            raise UpdateRejectedError(f"client {client!r} sent {times} updates", "send one update a round")

    def _check(self, combined: AdapterState) -> None:
        problems = meta_problems(combined.meta, self.adapter.meta)
        problems += shape_problems(combined, self.adapter) + finite_problems(combined)
        if problems:
            raise AdapterError(
                f"aggregator {self._aggregator.name!r} made an unsound adapter: {in_words(problems)}",
                "mend the aggregator: it must return float32 tensors of the same names and shapes",
            )
