"""What leaves fedse: adapters and merged models with their model cards, metrics for other tools."""

from fedse.export.folders import export_adapter, export_merged
from fedse.export.logs import KINDS, Log, logged, make_log
from fedse.export.origin import Origin
from fedse.export.parquet import write_parquet

__all__ = ["KINDS", "Log", "Origin", "export_adapter", "export_merged", "logged", "make_log", "write_parquet"]
