"""Configurations from presets, files and ``--set``, with every problem reported at once."""

from fedse.settings.loading import dump_config, load_config
from fedse.settings.presets import preset_description, preset_names
from fedse.settings.reference import reference

__all__ = ["dump_config", "load_config", "preset_description", "preset_names", "reference"]
