"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from fedse.errors import ConfigError

Preset = Annotated[str | None, Option("--preset", "-p", help="A shipped configuration to begin from.")]
ConfigFile = Annotated[Path | None, Option("--config", "-c", help="A YAML file; overrules the preset.")]
MethodName = Annotated[
    str | None, Option("--method", "-m", help="A method (`fedse methods` lists them); overrules both.")
]
Overrides = Annotated[
    list[str] | None, Option("--set", "-s", metavar="KEY=VALUE", help="Overrules all; can be repeated.")
]
RoundNumber = Annotated[int | None, Option("--round", min=0, help="Round of the run.", show_default="the last")]
Client = Annotated[str | None, Option(help="Whose adapter to take, of a run whose sites are isolated.")]
EnvironmentName = Annotated[str, Argument(metavar="ENV", help="A name from `fedse env ls`.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Show the result only.")]
LogTo = Annotated[
    list[str] | None,
    Option(
        metavar="NAME[:PLACE]",
        help="Also write the metrics to tensorboard, mlflow or wandb, as tensorboard:logs; repeat.",
    ),
]
OPTION_HELP = "Option of the environment; repeat."
EnvironmentOptions = Annotated[list[str] | None, Option("--option", "-o", metavar="KEY=VALUE", help=OPTION_HELP)]


def parsed_options(texts: Sequence[str]) -> dict[str, Any]:
    """The options behind ``key=value`` texts; values are YAML, as in configuration files.

    Raises:
        ConfigError: if a text is not of that form.
    """
    from fedse.settings.yaml_text import parse_yaml

    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise ConfigError(f"--option {text!r} is not of the form key=value", "write it as in --option size=200")
        try:
            options[key.strip()] = parse_yaml(value)
        except ValueError as cause:
            raise ConfigError(f"--option {text!r}: the value is not YAML: {cause}") from cause
    return options
