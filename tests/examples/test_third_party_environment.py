"""The example package is installed as any package is, found by its name, and keeps the contract."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "examples" / "third_party_environment"

CODE = """
from fedse.environments import environment_names, make
from fedse.environments.checking import check_environment
assert "shelf" in environment_names(), environment_names()
print(*check_environment("shelf"), sep="\\n", end="")
game = make("shelf", books=7)
for task in game.tasks("test")[:100]:
    observation, expert, result = game.reset(task), game.expert(0), None
    for turn in range(game.spec.max_turns):
        result = game.step(expert.act(observation)[1])
        observation = result.observation
        if result.done:
            break
    assert result.reward == 1.0
    assert turn + 1 == game.traits(task).difficulty
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed the example, with nothing fetched."""
    backend = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["build-system"]["requires"][0]
    pytest.importorskip(backend, reason=f"the example is built by {backend}")
    target = tmp_path_factory.mktemp("site")
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", str(target), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)


def test_the_installed_example_is_found_and_keeps_the_contract(site: Path) -> None:
    done = run(site, "-c", CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_the_command_line_knows_it(site: Path) -> None:
    done = run(site, "-m", "fedse", "env", "show", "shelf")
    assert done.returncode == 0, done.stderr
    assert "Sort books on a shelf" in done.stdout
    assert "On the shelf: " in done.stdout
