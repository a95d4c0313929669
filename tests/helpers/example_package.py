"""The example of docs/environments/adding.md, installed as a third-party package would be."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "environments" / "adding.md"


def install_example(folder: Path) -> None:
    """Lay the documented package out in a folder that is (to be) on the path, as an installer does."""
    text = PAGE.read_text(encoding="utf-8")
    project = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])["project"]
    (folder / "higher_lower.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    points = project["entry-points"]["fedse.environments"]
    install_points(folder, project["name"], points)


def install_points(
    folder: Path, distribution: str, points: dict[str, str], *, group: str = "fedse.environments"
) -> None:
    """A distribution that declares environments, or what else the group has: entry-point name → object."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
