"""``fedse federation``: keys, certificates and folders of a federation over the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, Typer

import fedse
from fedse.cli.console import examples, note, say, show_table
from fedse.cli.options import ConfigFile, MethodName, Overrides, Preset, Quiet
from fedse.cli.results import show_result
from fedse.errors import ConfigError
from fedse.results.formatting import size
from fedse.texts import command, counted

if TYPE_CHECKING:
    from fedse.deployment.folders import Entry

app = Typer(no_args_is_help=True, help="Make and renew keys, certificates and folders for sites on other machines.")

_DEFAULT = Path("federation")
_Folder = Annotated[Path, Option("--folder", "-f", help="The folder that `fedse federation init` made.")]
_Name = Annotated[str, Argument(metavar="SITE", help="The name of the site.")]
_Key = Annotated[
    Path | None, Option("--key", help="The site's public key, if it made the key itself; default: a new key is made.")
]
_Servers = Annotated[
    list[str], Option("--server", metavar="HOST[:PORT]", help="Name or address of the server; can be repeated.")
]
_Days = Annotated[int, Option(min=1, help="Days that the server's certificate is good for.")]


@app.command(
    epilog=examples(
        "fedse federation init --sites maze,wordle --server fl.example.org",
        "fedse federation init --preset nano --server fl.example.org:9443 --server 192.0.2.7",
        "fedse federation init --config run.yaml --server fl.example.org --sites-make-keys",
    )
)
def init(
    server: _Servers,
    sites: Annotated[
        str | None, Option(help="Names of the sites, with commas between.", show_default="those of the run")
    ] = None,
    out: Annotated[Path, Option("--out", "-o", help="The folder to make.")] = _DEFAULT,
    preset: Preset = None,
    config: ConfigFile = None,
    method: MethodName = None,
    overrides: Overrides = None,
    sites_make_keys: Annotated[
        bool,
        Option("--sites-make-keys", help="Make no keys for the sites; each makes its own and sends the public one."),
    ] = False,
    days: _Days = 365,
) -> None:
    """Make an authority, the server's certificate, the sites' keys, and a folder for each side.

    The run is put together as by `fedse run`; without a preset and a file it is that of the preset nano. A site whose
    name is in the run keeps its environment; other sites get the environments that are left over, in turn.
    """
    from fedse.deployment import folders

    run = fedse.load_config(
        "nano" if preset is None and config is None else preset, config, overrides or [], method=method
    )
    if sites is not None:
        run = folders.dealt(run, [name.strip() for name in sites.split(",")])
    made = folders.create(out, server, run, days=days, site_keys=not sites_make_keys)
    rows = [("authority", "stays with you, apart from the server", made.authority), ("server", "", made.server)]
    for name, clients in run.sites.items():
        rows.append((name, ", ".join(client.environment for client in clients), made.site(name)))
    show_table(("side", "what", "folder"), ([*map(str, row)] for row in rows), texts=["what", "folder"])
    say("\nMove each site's folder to its machine by a way that nobody else can read, and delete it here. Then:")
    first = next(iter(run.sites))
    steps = [(command("fedse server start --config", made.server / "server.yaml"), "at the server")]
    if sites_make_keys:
        steps = [
            (f"fedse federation key --config site-{first}/site.yaml", f"at site {first}; the others likewise"),
            (f"fedse federation add-site {first} --key {first}.pub", "here, with the file that it sent"),
            *steps,
        ]
    steps.append((f"fedse site start --config site-{first}/site.yaml", f"at site {first}; the others likewise"))
    _next(steps)


@app.command(
    "add-site",
    epilog=examples(
        "fedse federation add-site textcraft",
        "fedse federation add-site lab2 --environment webshop --key lab2.pub",
    ),
)
def add_site(
    name: _Name,
    key: _Key = None,
    environment: Annotated[
        str | None, Option(help="Its environment, if the server's run has none for it.", show_default="as in the run")
    ] = None,
    folder: _Folder = _DEFAULT,
) -> None:
    """Let a site take part: register its key, and make its folder if there is none. A running server notices."""
    from fedse.deployment import folders, keys

    federation = folders.FederationFolder(folder)
    public = federation.add(name, None if key is None else keys.read_public_key(key), environment=environment)
    _registered(name, public)
    if key is None:
        say(f"Its folder, with the key, is {federation.site(name)}: move it to its machine.")
    if name not in federation.server_file.run.sites:
        note(
            f"The run has no such site yet. Add it to {federation.server / 'server.yaml'}, under run.clients:\n"
            f"    - name: {name}\n      environment: {environment}",
            style="yellow",
        )


@app.command(
    epilog=examples("fedse federation key --config site-maze/site.yaml"),
)
def key(
    config: Annotated[Path, Option("--config", "-c", help="The site's file; it says where the key belongs.")] = Path(
        "site.yaml"
    ),
) -> None:
    """Make the key of a site, at the site: its private half never leaves the machine."""
    from fedse.deployment import folders, keys

    path, public = folders.make_site_key(config)
    say(f"The public key is {path}")
    say(f"fingerprint: {keys.fingerprint(public)}")
    say("Send the file to the server's operator, and compare the fingerprint by another way, such as the telephone.")


@app.command(epilog=examples("fedse federation revoke maze"))
def revoke(name: _Name, folder: _Folder = _DEFAULT) -> None:
    """Take a site's key away from the server. A running server notices."""
    from fedse.deployment.folders import FederationFolder

    say(f"{name} takes part no more; its key is now {FederationFolder(folder).revoke(name)}")


@app.command(
    epilog=examples(
        "fedse federation rotate",
        "fedse federation rotate --server fl.example.org --server 192.0.2.8",
        "fedse federation rotate maze",
        "fedse federation rotate maze --key maze.pub",
    )
)
def rotate(
    name: Annotated[
        str | None, Argument(metavar="SITE", help="A site, to give it another key.", show_default="the server")
    ] = None,
    key: _Key = None,
    server: Annotated[
        list[str] | None,
        Option("--server", metavar="HOST", help="Name or address of the server; repeat.", show_default="as they are"),
    ] = None,
    days: _Days = 365,
    folder: _Folder = _DEFAULT,
) -> None:
    """Give the server another key and certificate of the same authority, or a site another key."""
    from fedse.deployment import folders, keys

    federation = folders.FederationFolder(folder)
    if name is None:
        if key is not None:
            raise ConfigError("--key has no effect without a site", "name the site")
        hosts = federation.rotate_server(server or (), days=days)
        say(f"The server has another certificate, for {', '.join(hosts)}; it is good for {counted(days, 'day')}.")
        say("Move it and its key to the server, and start the server anew. Sites notice nothing.")
        return
    if server:
        raise ConfigError("--server has no effect with a site", "leave one of the two out")
    _registered(name, federation.rotate_site(name, None if key is None else keys.read_public_key(key)))
    if key is None:
        say(f"Move {federation.site(name) / 'site.key'} to the site, and start the site anew.")
    else:
        say("The site takes part again once it is started anew with this key.")


@app.command("ls", epilog=examples("fedse federation ls", "fedse federation ls --folder lab"))
def list_federation(folder: _Folder = _DEFAULT) -> None:
    """List authority, server and sites: fingerprints, and when certificates expire."""
    from fedse.deployment import folders, keys

    federation = folders.FederationFolder(folder)
    entries = federation.entries()
    rows = [(entry.kind, entry.name, entry.fingerprint or "no key", _expires(entry)) for entry in entries]
    show_table(("kind", "name", "fingerprint", "expires"), rows, texts=["name", "fingerprint", "expires"])
    for problem in keys.registered_keys(federation.server_file.keys)[1]:
        note(str(problem), style="yellow")
    late = [entry.kind for entry in entries if entry.days is not None and entry.days < keys.RENEW_DAYS]
    if "server" in late:
        note("Renew the server's certificate: fedse federation rotate", style="yellow")
    if "authority" in late:
        note("The authority ends soon. Begin a new federation: fedse federation init", style="yellow")


def _expires(entry: Entry) -> str:
    if entry.days is None:
        return ""
    return "has expired" if entry.days < 0 else f"in {entry.days:.0f} days"


def _registered(name: str, public: bytes) -> None:
    from fedse.deployment.keys import fingerprint

    say(f"{name} takes part with the key {fingerprint(public)}")


def _next(steps: Sequence[tuple[str, str]]) -> None:
    width = max(len(words) for words, _ in steps)
    for words, where in steps:
        say(f"  {words:<{width}}  {where}")


@app.command(
    epilog=examples("fedse federation demo", "fedse federation demo --keep demo", "fedse federation demo --rounds 5")
)
def demo(
    rounds: Annotated[int, Option(min=1, help="Rounds to do.")] = 3,
    keep: Annotated[
        Path | None, Option(help="Keep the folders of all sides here.", show_default="they go in the end")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show a federation of separate processes: a server with TLS and five sites with keys, on this machine.

    Every side has a folder of its own, and where the system allows it (Linux, as root) every site a network of its own.
    No process is left behind.
    """
    from fedse.deployment.demo import demonstrate

    run = fedse.load_config("nano", None, [f"rounds={rounds}", *_SMALL])
    if not quiet:
        sides = f"server and {counted(len(run.sites), 'site')}"
        note(f"{sides} as processes of their own: {counted(rounds, 'round')} on {run.model.name}")

    def line(side: str, text: str) -> None:
        if not quiet:
            note(f"{side:<10} {text}")

    shown = demonstrate(run, line=line, home=keep)
    show_result(shown.records, run.evaluation)
    rows = []
    for view in shown.views:
        own = (view.name, size(view.sent), size(view.received))
        for kind, (count, total) in view.files.items():
            rows.append((own[0], kind, str(count), size(total), *own[1:]))
            own = ("", "", "")
    headings = ("side", "has", "files", "size", "updates sent", "received")
    show_table(headings, rows, title="\nWhat each side has in the end", texts=["has"])
    say(f"\nEach site had {'a network of its own' if shown.networks else 'the network of this machine'}.")
    if keep is not None:
        say(f"Look at the server's side with: {command('fedse report', keep / 'server/run')}")


#: So that the demonstration takes minutes; the preset itself learns more.
_SMALL = ("workers=1", "method.warmup_rounds=1", "evaluation.tasks=20", "evaluation.every=0", "exchange.deadline=900")
