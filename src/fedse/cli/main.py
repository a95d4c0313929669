"""``fedse``: the application, and what happens to errors.

Heavy libraries are imported inside the commands, so that ``fedse --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from fedse.cli import (
    compare,
    console,
    demos,
    diagnose,
    doctor,
    env,
    evaluate,
    export,
    federation,
    methods,
    model,
    plan,
    play,
    report,
    results,
    run,
    server,
    site,
    suite,
    view,
)
from fedse.errors import ConfigError, FedseError, UnknownNameError

if TYPE_CHECKING:
    import click


class _Group(TyperGroup):
    """Shows our errors as a message with its mend; leaves programming errors their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with console.warnings_shown():
                return super().invoke(ctx)
        except FedseError as error:
            if ctx.params.get("traceback") or os.environ.get("FEDSE_TRACEBACK", "0") not in ("", "0"):
                raise
            console.stderr.print(Text.assemble(("Error: ", "bold red"), (error.what, "red")))
            if error.mend:
                console.stderr.print(Text(f"  → {error.mend}"))
            raise typer.Exit(2 if isinstance(error, ConfigError | UnknownNameError) else 1) from error
        except KeyboardInterrupt as stop:  # its argument says how to go on
            console.note(" ".join(["\nInterrupted.", *stop.args]), style="yellow")
            raise typer.Exit(128 + signal.SIGINT) from None  # as shells count it


app = typer.Typer(
    name="fedse",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=console.examples("fedse run --preset quickstart", "fedse view runs/quickstart-seed0", "fedse doctor"),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        console.stdout.print(f"fedse {version('fedse')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show errors with their traceback (or set FEDSE_TRACEBACK=1).")
    ] = False,
) -> None:
    """Federated self-evolution of LLM agents: sites learn from their own successes and share only LoRA adapters."""


app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("plan", epilog=plan.EXAMPLES)(plan.plan)
app.command("eval", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("power", epilog=compare.POWER_EXAMPLES)(compare.power)
app.command("diagnose", epilog=diagnose.EXAMPLES)(diagnose.diagnose)
app.command("play", epilog=play.EXAMPLES)(play.play)
app.command("view", epilog=view.EXAMPLES)(view.view)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("ls", epilog=results.EXAMPLES)(results.ls)
app.command("demos", epilog=demos.EXAMPLES)(demos.demos)
app.command("methods", epilog=methods.EXAMPLES)(methods.methods)
app.add_typer(suite.app, name="suite")
app.add_typer(server.app, name="server")
app.add_typer(site.app, name="site")
app.add_typer(federation.app, name="federation")
app.add_typer(env.app, name="env")
app.add_typer(model.app, name="model")
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)


def main() -> None:
    """Entry point of the ``fedse`` script."""
    console.fit_terminal()
    app()
