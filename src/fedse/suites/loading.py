"""Suites as YAML: reading one with every problem reported at once, and writing one that is whole by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from fedse.config import RunConfig
from fedse.errors import ConfigError
from fedse.names import did_you_mean, unknown_name
from fedse.settings import Method, build_config, flat_settings, read_method
from fedse.settings.yaml_text import dump_yaml, parse_yaml
from fedse.suites.cells import SuiteLayout
from fedse.suites.suite import DEMONSTRATIONS, Suite, SuiteModel, suite_error
from fedse.texts import read_text

_FOLDER = resources.files("fedse") / "suites" / "presets"


def _speakable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError("a name has letters, digits, '-', '_' and '.', and begins with a letter or a digit")
    return name


_Name = Annotated[str, AfterValidator(_speakable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Model(_Part):
    name: _Name
    set: dict[str, Any] = {}


class _Method(_Part):
    name: _Name | None = None
    method: str | None = None
    label: str | None = None
    description: str | None = None
    set: dict[str, Any] = {}


class _File(_Part):
    name: _Name
    description: str = ""
    preset: str | None = None
    config: dict[str, Any] = {}
    models: list[_Model] = []
    demonstrations: list[Annotated[int, Field(ge=0)]] = []
    methods: list[_Method] = Field(min_length=1)
    ablations: list[_Method] = []
    reference: str = "fed-se"
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2], min_length=1)
    jobs: int | None = Field(default=None, ge=1)

    @field_validator("methods", "ablations", mode="before")
    @classmethod
    def _by_name(cls, entries: Any) -> Any:
        """A text is the name of a shipped method."""
        if not isinstance(entries, list):
            return entries
        return [{"method": entry} if isinstance(entry, str) else entry for entry in entries]


def suite_names() -> list[str]:
    """Names of the shipped suites, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))


def load_suite(name_or_path: str | Path) -> Suite:
    """A shipped suite, one from a YAML file, or the one that a suite's folder belongs to.

    Raises:
        UnknownNameError: if it is none of them; also for an unknown preset or method.
        ConfigError: listing everything that is wrong with it, and with the configurations of its cells.
    """
    text = str(name_or_path)
    if text in suite_names():
        return parse_suite((_FOLDER / f"{text}.yaml").read_text(encoding="utf-8"), f"the suite {text}")
    path = Path(name_or_path)
    file = SuiteLayout(path).suite if path.is_dir() else path
    if not file.is_file():
        raise unknown_name("suite or file", text, suite_names())
    try:
        content = read_text(file)
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"cannot read the suite {file}: {cause}", "check the path") from cause
    return parse_suite(content, str(file))


def parse_suite(text: str, origin: str) -> Suite:
    """A suite from its YAML text; ``origin`` says in errors where it comes from.

    Raises:
        UnknownNameError, ConfigError: see :func:`load_suite`.
    """
    try:
        data = parse_yaml(text)
    except ValueError as cause:
        raise ConfigError(f"{origin} is not YAML: {cause}", "mend the file") from cause
    try:
        found = _File.model_validate(data)
        config = build_config(found.preset, found.config)
    except ValidationError as cause:
        raise suite_error(origin, [_problem(error["loc"], error) for error in cause.errors()]) from cause
    except ConfigError as cause:
        raise suite_error(origin, [cause.what]) from cause
    suite = Suite(
        name=found.name,
        description=found.description,
        config=config,
        models=_by_demonstrations(
            tuple(
                SuiteModel(model.name, {"model.name": model.name} | flat_settings(model.set)) for model in found.models
            )
            or (_own_model(config),),
            found.demonstrations,
        ),
        methods=tuple(_method(entry, origin) for entry in found.methods),
        ablations=tuple(_method(entry, origin) for entry in found.ablations),
        reference=found.reference,
        seeds=tuple(found.seeds),
        jobs=found.jobs,
    )
    if problems := _confusions(suite):
        raise suite_error(origin, problems)
    suite.cells()
    return suite


def dump_suite(suite: Suite) -> str:
    """The whole suite as YAML, with nothing left to look up elsewhere; :func:`load_suite` reads an equal one."""
    return dump_yaml(
        {
            "name": suite.name,
            "description": suite.description,
            "reference": suite.reference,
            "seeds": list(suite.seeds),
            "jobs": suite.jobs,
            "models": [asdict(model) for model in suite.models],
            "methods": [asdict(method) for method in suite.methods],
            "ablations": [asdict(method) for method in suite.ablations],
            "config": suite.config.model_dump(mode="json"),
        }
    )


def _own_model(config: RunConfig) -> SuiteModel:
    """The configuration's own model, under a name that can be a folder's."""
    short = config.model.name.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", short).lstrip("._-") or "model"
    return SuiteModel(name, {"model.name": config.model.name})


def _by_demonstrations(models: Sequence[SuiteModel], counts: Sequence[int]) -> tuple[SuiteModel, ...]:
    """Each model with each number of demonstrations a site, if there are such; without any, no round waits for them."""
    return tuple(
        SuiteModel(
            f"{model.name}-{count}-demonstrations",
            {**model.set, DEMONSTRATIONS: count, **({} if count else {"method.warmup_rounds": 0})},
        )
        for model in models
        for count in counts
    ) or tuple(models)


def _method(entry: _Method, origin: str) -> Method:
    """The shipped method that an entry names, with what the entry itself says over it."""
    if entry.method is None:
        if entry.name is None:
            raise suite_error(origin, ["methods: an entry has neither a name nor the method that it begins from"])
        return Method(entry.name, entry.label or entry.name, entry.description or "", flat_settings(entry.set))
    shipped, own = read_method(entry.method), flat_settings(entry.set)
    name = entry.name or shipped.name
    below = {path: value for path, value in flat_settings(shipped.set).items() if path not in own}
    label = entry.label or (shipped.label if name == shipped.name else name)
    return Method(name, label, entry.description or shipped.description, below | own)


def _confusions(suite: Suite) -> list[str]:
    """What is there twice, and a reference that is none of the methods."""
    methods = [method.name for method in suite.all_methods]
    lists: Mapping[str, list[Any]] = {
        "models": [model.name.casefold() for model in suite.models],
        "methods and ablations": [name.casefold() for name in methods],
        "labels of methods and ablations": [method.label.casefold() for method in suite.all_methods],
        "seeds": list(suite.seeds),
    }
    problems = [
        f"{where}: {name!r} is there twice" for where, names in lists.items() for name in names if names.count(name) > 1
    ]
    if suite.reference not in methods:
        hint = did_you_mean(suite.reference, methods)
        problems.append(f"reference: found {suite.reference!r}; {hint}allowed: {', '.join(methods)}")
    return problems


def _problem(loc: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
    keys = list(_File.model_fields) if len(loc) == 1 else list((_Model if loc[0] == "models" else _Method).model_fields)
    where = ".".join(str(segment) for segment in loc) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; {did_you_mean(str(loc[-1]), keys)}allowed: {', '.join(keys)}"
    if error["type"] == "model_type":
        return f"{where}: found {error['input']!r}; allowed: mapping"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
