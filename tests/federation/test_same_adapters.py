"""However messages travel, the same run ends with the same adapters."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedse.federation.run import run
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import load_state
from helpers.toy_runs import toy_client, toy_config
