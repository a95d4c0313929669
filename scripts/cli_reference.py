"""Bring the help texts in ``docs/cli.md`` into step with the program.

Each marker line ``<!-- help: fedse run -->`` is followed by a fenced block; this script replaces the block by what
``fedse run --help`` prints.  With ``--check`` it changes nothing and fails if something is out of step.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
_BLOCK = re.compile(r"<!-- help: fedse(?P<command>[a-z -]*) -->\n```text\n.*?```\n", re.DOTALL)
_WIDTH = "100"


def render(page: str) -> str:
    """The page with every help block made anew."""
    return _BLOCK.sub(lambda match: _block(match["command"].strip()), page)


def documented(page: str) -> list[str]:
    """The commands whose help the page shows, as in ``["", "run", "env ls"]``."""
    return [match["command"].strip() for match in _BLOCK.finditer(page)]


def _block(command: str) -> str:
    from typer.testing import CliRunner

    from fedse.cli.main import app

    # The width is that of the page; without a terminal nothing is coloured.
    environment = {"COLUMNS": _WIDTH, "TERMINAL_WIDTH": _WIDTH, "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="fedse", env=environment)
    text = "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())
    return f"<!-- help: fedse {command} -->\n```text\n{text}\n```\n".replace("fedse  -->", "fedse -->")


def main() -> int:
    """Rewrite the page, or with ``--check`` tell whether it would change."""
    page = PAGE.read_text()
    fresh = render(page)
    if "--check" in sys.argv:
        return int(page != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
