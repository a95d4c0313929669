"""``fedse site``: the process of a site that takes part in a federation from its own machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option, Typer

from fedse.cli.console import examples, log, note, say
from fedse.cli.options import Quiet
from fedse.cli.progress import shown
from fedse.errors import RunError
from fedse.results.formatting import duration, size
from fedse.texts import command

if TYPE_CHECKING:
    from fedse.deployment.files import SiteFile

app = Typer(no_args_is_help=True, help="Take part in a federation from this machine.")

_File = Annotated[Path, Option("--config", "-c", help="The site's file; `fedse federation init` makes one.")]
_DEFAULT = Path("site.yaml")
_STOPPING_SECONDS = 60.0


@app.command(epilog=examples("fedse site start", "fedse site start --config site-maze/site.yaml"))
def start(config: _File = _DEFAULT, quiet: Quiet = False) -> None:
    """Take part until told to stop: wait for the server's instructions, explore, train, and send adapters.

    Only one connection is made, to the server. What was done is kept: it can be killed and started again at any time.
    """
    from fedse.deployment.files import load_site_file
    from fedse.deployment.site import serve_site
    from fedse.processes import keep_freed_memory

    file = load_site_file(config)
    keep_freed_memory()
    note(f"site {file.site}: data in {file.folder}; server {file.server}")
    with shown(0, quiet=quiet) as listener:
        serve_site(file, listener=listener, told=log)
    note(f"site {file.site} has stopped. Go on with: {command('fedse site start --config', config)}")


@app.command(epilog=examples("fedse site status", "fedse site status --config site-maze/site.yaml"))
def status(config: _File = _DEFAULT) -> None:
    """Say what the site's process does, and how it gets on with the server. Exit code 1 if there is no process."""
    from fedse.deployment.files import load_site_file
    from fedse.deployment.site import ask_site

    _show(ask_site(load_site_file(config), "status"))


@app.command(epilog=examples("fedse site stop", "fedse site stop --config site-maze/site.yaml"))
def stop(config: _File = _DEFAULT) -> None:
    """Stop the site's process. What it has done is kept."""
    from fedse.deployment.files import load_site_file
    from fedse.deployment.site import ask_site

    file = load_site_file(config)
    ask_site(file, "stop")
    deadline = time.monotonic() + _STOPPING_SECONDS
    while time.monotonic() < deadline:
        if not _runs(file):
            say(f"site {file.site} has stopped")
            return
        time.sleep(0.1)
    raise RunError(f"site {file.site} was told to stop, but still works after a minute", "wait, or end its process")


def _runs(file: SiteFile) -> bool:
    from fedse.deployment.site import ask_site

    try:
        ask_site(file, "status")
    except RunError:
        return False
    return True


def _show(told: dict[str, Any]) -> None:
    now = time.time()
    doing = f"{told['doing']}, for {duration(now - told['since'])}" if told["doing"] else "waits for the server"
    say(f"site {told['site']}: process {told['process']}, up for {duration(now - told['started'])}")
    say(f"  does        {doing}")
    say(f"  run         {told['run'] or 'none yet'}")
    say(f"  answered    {told['answered']}, refused {told['refused']}")
    if told["last_error"]:
        say(f"  last error  {told['last_error']}; errors.log in the site's folder has its words")
    say(f"  connection  {told['link'] or 'not made yet'}")
    say(f"  memory      {size(told['memory'])}")
