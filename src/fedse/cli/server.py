"""``fedse server``: the server of a federation whose sites are on machines of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Group
from rich.live import Live
from rich.text import Text
from typer import Option, Typer

from fedse.cli.console import examples, log, made_table, note, print_table, say, stdout
from fedse.cli.options import Quiet
from fedse.cli.progress import shown
from fedse.cli.results import show_result
from fedse.results.formatting import duration, percent, sparkline
from fedse.texts import command, counted

if TYPE_CHECKING:
    from rich.table import Table

    from fedse.deployment.server import ServerStatus

app = Typer(no_args_is_help=True, help="Serve a federation to sites on other machines.")

_File = Annotated[Path, Option("--config", "-c", help="The server's file; `fedse federation init` makes one.")]
_DEFAULT = Path("server.yaml")
_LOOK_SECONDS = 1.0


@app.command(epilog=examples("fedse server start", "fedse server start --config server/server.yaml"))
def start(config: _File = _DEFAULT, quiet: Quiet = False) -> None:
    """Listen for sites and do the rounds, or go on with them; ends when all are done.

    It can be killed and started again at any time: the run goes on from its last complete round, and the sites need not
    be started again.
    """
    from fedse.deployment.files import load_server_file
    from fedse.deployment.server import serve_federation

    file = load_server_file(config)
    sites = ", ".join(file.run.sites)
    note(f"{file.folder}: {counted(file.run.rounds, 'round')} on {file.run.model.name}; sites: {sites}")
    note(f"listens at {file.listen}")
    try:
        with shown(file.run.rounds, quiet=quiet) as listener:
            records = serve_federation(file, listener=listener, told=log)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Go on with: {command('fedse server start --config', config)}") from None
    show_result(records, file.run.evaluation)
    say(f"\nThe run is in {file.folder}; look at it with: {command('fedse report', file.folder)}")


@app.command(
    epilog=examples(
        "fedse server status", "fedse server status --config server/server.yaml", "fedse server status --follow"
    )
)
def status(
    config: _File = _DEFAULT,
    follow: Annotated[bool, Option("--follow", help="Show it anew every second, until Ctrl-C.")] = False,
) -> None:
    """Show the rounds so far, who answered, who did not and why, and which sites are connected."""
    from fedse.deployment.files import load_server_file
    from fedse.deployment.server import server_status

    file = load_server_file(config)
    if not (follow and stdout.is_terminal):
        found = server_status(file)
        say(_headline(found))
        for table in _tables(found):
            print_table(table)
        return
    with Live(console=stdout, refresh_per_second=2, screen=True) as live:
        while True:
            found = server_status(file)
            live.update(Group(_headline(found), "", *_tables(found), "", *(Text(line) for line in found.said[-8:])))
            time.sleep(_LOOK_SECONDS)


def _headline(found: ServerStatus) -> str:
    done = len(found.records) - 1
    rounds = f"round {done} of {found.config.rounds} is complete" if done >= 0 else "no round is complete yet"
    return f"{'at work' if found.at_work else 'no process is at work'}; {rounds}"


def _tables(found: ServerStatus) -> list[Table]:
    """The sites as they are now, and the rounds as they were."""
    last = found.records[-1].clients if found.records else {}
    sites = []
    for site, clients in found.config.sites.items():
        heard = found.heard.get(site)
        connected = "not heard of" if heard is None else f"heard of {duration(heard)} ago"
        what = ", ".join(client.environment for client in clients)
        sites.append((site, what, connected, str(last.get(site, {}).get("outcome", ""))))
    tables = [made_table(("site", "environments", "connection", "last round"), sites, texts=_TEXTS)]
    rounds = []
    for record in found.records[1:]:
        answered = [site for site in found.config.sites if record.clients.get(site, {}).get("outcome") == "ok"]
        rounds.append((str(record.round), f"{len(answered)} of {len(found.config.sites)}", _others(record.clients)))
    if rounds:
        tables.append(made_table(("round", "answered", "others"), rounds, title="\nRounds", texts=["others"]))
    evaluated = [record.evaluation for record in found.records if record.evaluation]
    if evaluated:
        rates = [
            (name, percent(evaluated[-1][name].rate), sparkline([one[name].rate for one in evaluated if name in one]))
            for name in evaluated[-1]
        ]
        tables.append(made_table(("environment", "success", "by round"), rates, title="\nSuccess", texts=["by round"]))
    return tables


_TEXTS = ("environments", "connection", "last round")


def _others(clients: Mapping[str, Mapping[str, object]]) -> str:
    outcomes = {site: str(told["outcome"]) for site, told in clients.items() if "outcome" in told}
    return "; ".join(f"{site}: {outcome}" for site, outcome in outcomes.items() if outcome != "ok")
