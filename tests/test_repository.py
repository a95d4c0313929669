"""What the repository promises as a whole: import rules, light start-up, pins, and documents that are true."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from fedse.cli.main import app
from fedse.environments import environment_names
from fedse.settings import load_config, preset_names

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_import_rules_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("fedse", {"torch", "transformers", "peft", "numpy", "scipy", "pandas", "matplotlib", "pydantic"}),
        ("fedse.cli.main", {"torch", "transformers", "peft", "numpy", "scipy", "pandas", "matplotlib", "pydantic"}),
        ("fedse.types", {"torch", "transformers", "peft", "scipy", "pandas", "matplotlib"}),
        ("fedse.settings", {"torch", "transformers", "peft", "scipy", "pandas", "matplotlib"}),
        ("fedse.deployment.folders", {"torch", "transformers", "peft", "scipy", "pandas", "matplotlib"}),
        ("fedse.deployment.terms", {"torch", "transformers", "peft", "scipy", "pandas", "matplotlib"}),
        ("fedse.environments", {"torch", "transformers", "peft", "scipy", "pandas", "matplotlib"}),
        ("fedse.experience", {"torch", "transformers", "peft", "scipy", "pandas", "matplotlib"}),
    ],
)
def test_importing_stays_light(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_no_global_random_generator_is_touched() -> None:
    forbidden = re.compile(r"\b(torch\.manual_seed|torch\.cuda\.manual_seed\w*|(?<!\.)random\.seed|np\.random\.seed)\(")
    # Within fork_rng the generator's state is put back.
    found = [path for path in SOURCES if forbidden.search(text := path.read_text()) and "fork_rng(" not in text]
    assert found == []


def test_every_requirement_is_pinned_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert list(pins) == sorted(pins)
    extras = PROJECT["optional-dependencies"].values()
    for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:  # another extra of its own, which has its turn
            assert requirement.extras <= PROJECT["optional-dependencies"].keys()
            continue
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_name_existing_environments(name: str) -> None:
    config = load_config(name, None, [])
    assert {client.environment for client in config.clients} <= set(environment_names())


def documented_commands(program: str) -> list[tuple[str, list[str]]]:
    """(document, arguments) of every call of a program in the documents' bash blocks."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ ").strip(), comments=True)
                if words and Path(words[0]).name == program:
                    found.append((f"{document.name}: {line.strip()}", words[1:]))
    return found


@pytest.mark.parametrize(("line", "arguments"), documented_commands("fedse"))
def test_documented_commands_are_accepted(line: str, arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    while isinstance(command, typer.core.TyperGroup) and arguments and not arguments[0].startswith("-"):
        assert arguments[0] in command.commands
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if not {"--help", "--version"} & set(arguments):
        command.make_context("fedse", list(arguments))


def quickstart() -> tuple[str, list[str]]:
    """What ``make quickstart`` runs once everything is installed."""
    [words] = re.findall(r"^quickstart:.*\n\t\$\(BIN\)/fedse (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return "make quickstart", shlex.split(words)


@pytest.mark.long
@pytest.mark.usefixtures("warm_workers")
def test_the_commands_of_the_readme_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, but with a small preset, and few tasks, episodes and tokens."""
    monkeypatch.chdir(tmp_path)
    for line, arguments in [quickstart(), *documented_commands("fedse")]:
        if not line.startswith(("make", "README.md:")):
            continue
        words = [re.sub("quickstart", "tiny", word) for word in arguments]
        words = ["2" if before == "--tasks" else word for before, word in zip(["", *words], words, strict=False)]
        if words[0] == "run":
            few = ("rounds=1", "training.steps=1", "rollout.max_turns=1", "rollout.max_response_tokens=4")
            few += ("evaluation.tasks=2", "clients.*.demonstrations=2", "clients.*.episodes_per_round=2")
            words += [word for change in few for word in ("--set", change)]
        result = CliRunner().invoke(app, words, input="")
        assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize(("line", "arguments"), documented_commands("make"))
def test_documented_make_targets_exist(line: str, arguments: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in arguments if "=" not in word} <= targets


REFERENCE = ROOT / "scripts" / "cli_reference.py"


def test_the_command_line_reference_has_every_command() -> None:
    def commands(command: click.Command, path: str) -> Iterator[str]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from commands(child, f"{path} {name}".strip())

    script = runpy.run_path(str(REFERENCE))
    assert sorted(script["documented"](script["PAGE"].read_text())) == sorted(commands(typer.main.get_command(app), ""))


def test_the_command_line_reference_shows_the_real_help() -> None:
    result = subprocess.run([sys.executable, str(REFERENCE), "--check"], check=False)
    assert result.returncode == 0, "docs/cli.md is out of step: run make reference"


@pytest.mark.parametrize("works", [True, False])
def test_constraints_are_written_only_if_the_versions_could_be_listed(tmp_path: Path, works: bool) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    before = (tmp_path / "constraints.txt").read_text()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    python = tmp_path / "env" / "bin" / "python"
    python.write_text("#!/bin/sh\necho Some_Package==2.0+cpu\n" + ("" if works else "exit 1\n"))
    python.chmod(0o755)
    for stamp in (".torch", ".runtime", ".dev", ".docs", ".bench"):  # each newer than what it is made of
        (tmp_path / "env" / stamp).touch()
    command = ["make", "-C", str(tmp_path), "constraints", "VENV=env"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == works, result.stderr
    after = (tmp_path / "constraints.txt").read_text()
    assert after == ("".join(before.splitlines(keepends=True)[:2]) + "some-package==2.0\n" if works else before)
