"""How the tests call the program."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

#: ``cli("run", "--quiet", …, input="typed")``
Cli = Callable[..., Result]
