"""What leaves fedse: adapters and merged models with their model cards, metrics as Parquet, TensorBoard logs."""

from fedse.export.folders import export_adapter, export_merged
from fedse.export.origin import Origin
from fedse.export.parquet import write_parquet
from fedse.export.tensorboard import EventLog, export_events

__all__ = ["EventLog", "Origin", "export_adapter", "export_events", "export_merged", "write_parquet"]
