"""Configurations from presets, files, methods and ``--set``, with every problem reported at once."""

from fedse.settings.loading import build_config, derive_config, dump_config, load_config
from fedse.settings.methods import Method, method_names, read_method
from fedse.settings.overrides import flat_settings
from fedse.settings.presets import preset_description, preset_names
from fedse.settings.reference import reference

__all__ = [
    "Method",
    "build_config",
    "derive_config",
    "dump_config",
    "flat_settings",
    "load_config",
    "method_names",
    "preset_description",
    "preset_names",
    "read_method",
    "reference",
]
