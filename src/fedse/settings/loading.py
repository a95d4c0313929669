"""Loading a configuration: a preset, a file, a method, then overrides; each overrules the one before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fedse.config import ModelConfig, RunConfig
from fedse.errors import ConfigError
from fedse.settings.methods import read_method
from fedse.settings.overrides import apply_override, apply_settings
from fedse.settings.presets import preset_names, preset_text
from fedse.settings.schema import allowed, item_section, section, show, unknown_key
from fedse.settings.yaml_text import dump_yaml, parse_yaml
from fedse.texts import read_text

_M = TypeVar("_M", bound=BaseModel)


def load_config(
    preset: str | None = None,
    file: Path | str | None = None,
    overrides: Iterable[str] = (),
    *,
    method: str | None = None,
) -> RunConfig:
    """The configuration that a preset, a file, a method and overrides make together.

    Mappings merge key by key; lists are replaced as a whole.  A file may begin from a preset with ``preset: NAME``.  A
    file or a preset may take a method with ``method: NAME``, or as ``method: {name: NAME, …}`` with more set over it.
    The arguments ``preset`` and ``method`` take the place of those names.

    Args:
        preset: name of a shipped preset, see :func:`~fedse.settings.preset_names`.
        file: a YAML file.
        overrides: ``key=value`` texts, applied in order.  The key is a dotted path; a client is meant by its name, its
            index, or ``*`` for all of them (``clients.maze.demonstrations=8``).  The value is YAML and replaces what
            is there.
        method: name of a shipped method, see :func:`~fedse.settings.method_names`; applied before the overrides.  It is
            added to the run's name, so that runs of several methods have different folders.

    Raises:
        ConfigError: listing everything that is wrong: dotted path, value found, what is allowed.
        UnknownNameError: for an unknown preset or method; offers the nearest names.
    """
    data = _layers(preset, None if file is None else Path(file), own_method=method is None)
    problems = []
    if method is not None:
        problems = apply_settings(data, read_method(method).set)
        data["name"] = f"{data.get('name', 'run')}-{method}"
    problems += [problem for override in overrides for problem in apply_override(data, override)]
    return _validated(data, problems)


def derive_config(config: RunConfig, *settings: Mapping[str, Any]) -> RunConfig:
    """A configuration with some settings changed, as those of a method.

    Args:
        config: what to begin from.
        settings: applied in order, see :func:`~fedse.settings.overrides.apply_settings`.

    Raises:
        ConfigError: listing everything that is wrong.
    """
    data = config.model_dump(mode="json")
    return _validated(data, [problem for mapping in settings for problem in apply_settings(data, mapping)])


def build_config(preset: str | None, settings: Mapping[str, Any]) -> RunConfig:
    """The configuration that a preset, or none, without the method that it names, and settings make together.

    Raises:
        ConfigError: listing everything that is wrong.
        UnknownNameError: for an unknown preset.
    """
    data = {} if preset is None else _preset_data(preset, own_method=False)
    return _validated(data, apply_settings(data, settings))


def _validated(data: dict[str, Any], problems: list[str]) -> RunConfig:
    """The configuration, if it is valid and nothing else was found wrong with it."""
    mend = f"docs/configuration.md lists every key; presets to begin from: {', '.join(preset_names())}"
    config = validated(RunConfig, data, problems, origin="the configuration", mend=mend)
    return config.model_copy(update={"model": _anchored(config.model)})


def _anchored(model: ModelConfig) -> ModelConfig:
    """The same model wherever the program runs next: a relative path that is there becomes absolute.

    A word alone may be a model that fedse knows, and stays.
    """
    path = Path(model.name).expanduser()
    is_path = len(path.parts) > 1 or path.suffix.lower() == ".gguf" or model.name.startswith(".")
    return model.model_copy(update={"name": str(path.absolute())}) if is_path and path.exists() else model


def validated(model: type[_M], data: dict[str, Any], problems: list[str], *, origin: str, mend: str) -> _M:
    """Data as a model, if it is valid and nothing else was found wrong with it.

    Args:
        model: what the data is to be.
        data: plain data, with segments of a dotted path as keys.
        problems: that were found before, if any.
        origin: what has the problems, for the error.
        mend: for the error.

    Raises:
        ConfigError: listing everything that is wrong: dotted path, value found, what is allowed.
    """
    try:
        # Strict JSON takes no text for a number and no number for a text, but a list for a tuple.
        made = model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as cause:
        raise _error(problems + _explain(cause, data, model), origin, mend) from cause
    if problems:
        raise _error(problems, origin, mend)
    return made


def dump_config(config: RunConfig) -> str:
    """The whole configuration as YAML; :func:`load_config` turns a file of it back into an equal one."""
    return dump_yaml(config.model_dump())


def _layers(preset: str | None, file: Path | None, *, own_method: bool) -> dict[str, Any]:
    """The preset's data with the file's merged over it, not yet validated."""
    if file is None:
        return {} if preset is None else _preset_data(preset, own_method=own_method)
    return with_preset(read_mapping(file), str(file), preset, own_method=own_method)


def read_mapping(file: Path) -> dict[str, Any]:
    """What a YAML file holds, not yet validated.

    Raises:
        ConfigError: if it cannot be read, is not YAML, or holds no mapping.
    """
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"cannot read the configuration {file}: {cause}", "check the path") from cause
    return _mapping(text, str(file))


def with_preset(
    data: dict[str, Any], origin: str, preset: str | None = None, *, own_method: bool = True
) -> dict[str, Any]:
    """A configuration's data merged over the preset that it names, or over ``preset`` in its place.

    Args:
        data: of a file; changed.
        origin: of the data, for errors.
        preset: the argument that takes the place of the name in the data.
        own_method: whether to apply the methods that the data and its presets name.

    Raises:
        ConfigError: if it names the preset by anything but a text.
        UnknownNameError: for an unknown preset or method.
    """
    below, own = data.pop("preset", None), data.get("method")
    if below is not None and not isinstance(below, str):
        raise ConfigError(f"preset: found {show(below)}; allowed: {', '.join(preset_names())}", f"mend {origin}")
    section = {"name": own} if isinstance(own, str) else dict(own) if isinstance(own, dict) else {}
    method = section.pop("name", None)
    if isinstance(method, str):
        del data["method"]
    name = preset if preset is not None else below
    merged = data if name is None else _merge(_preset_data(name, own_method=own_method), data)
    if not isinstance(method, str):
        return merged
    if own_method:
        apply_settings(merged, read_method(method).set)
    return _merge(merged, {"method": section})


def _preset_data(name: str, *, own_method: bool) -> dict[str, Any]:
    """A preset's data over that of the preset it begins from, if any."""
    return with_preset(_mapping(preset_text(name), f"preset {name}"), f"preset {name}", own_method=own_method)


def _mapping(text: str, origin: str) -> dict[str, Any]:
    try:
        data = parse_yaml(text)
    except ValueError as cause:
        raise ConfigError(f"{origin} is not YAML: {cause}", "mend the file") from cause
    if not isinstance(data, dict | None):
        raise ConfigError(f"{origin} holds {show(data)}; allowed: a mapping", "write lines of the form 'key: value'")
    mapping = data or {}
    mapping.pop("description", None)  # of a preset, for lists of them
    return mapping


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _error(problems: list[str], origin: str, mend: str) -> ConfigError:
    unique = list(dict.fromkeys(problems))
    count = "a problem" if len(unique) == 1 else f"{len(unique)} problems"
    return ConfigError(f"{origin} has {count}:" + "".join(f"\n  - {problem}" for problem in unique), mend)


def _explain(cause: ValidationError, data: dict[str, Any], model: type[BaseModel]) -> list[str]:
    """One problem for each wrong key, in the words of a user who knows dotted paths but not pydantic."""
    problems = []
    for error in cause.errors(include_url=False):
        path, found, field = _locate(error["loc"], data, model)
        where = ".".join(path)
        if isinstance(field, FieldInfo):
            told = error["msg"].removeprefix("Value error, ") if error["type"] == "value_error" else allowed(field)
            shown = "missing" if error["type"] == "missing" else f"found {show(found)}"
            problems.append(f"{where}: {shown}; allowed: {told}")
        elif field is not None:
            problems.append(unknown_key(path, found, field, model))
        else:
            problems.append(f"{where}: found {show(found)}; allowed: mapping")
    return problems


def _locate(
    loc: tuple[int | str, ...], data: Any, root: type[BaseModel]
) -> tuple[list[str], Any, FieldInfo | type[BaseModel] | None]:
    """What pydantic's error location means.

    Below a key that holds a value pydantic goes on with the alternatives of its type; those are cut off.

    Returns:
        The dotted path's segments, clients by name; the value there; and the key's field, its section if that has no
        such key, or None for an item of a list.
    """
    path: list[str] = []
    schema: Any = root
    field: FieldInfo | None = None
    for segment in loc:
        if model := section(schema):
            path.append(str(segment))
            data = data.get(segment)
            field = model.model_fields.get(str(segment))
            if field is None:
                return path, data, model
            schema = field.annotation
        elif item := item_section(schema):
            data = data[segment]
            name = data.get("name") if isinstance(data, dict) else None
            path.append(name if isinstance(name, str) else str(segment))
            schema, field = item, None
        else:
            break
    return path, data, field
