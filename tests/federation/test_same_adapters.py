"""However messages travel, the same run ends with the same adapters."""

from __future__ import annotations
