"""Reports of runs: one self-contained HTML page, its figures as files, and the metrics as a table.

Reads run folders and nothing else: no model, no environment, no network.
"""

from fedse.report.live import follow
from fedse.report.page import render_page, write_page
from fedse.report.reading import Run, read_run, read_runs
from fedse.report.table import write_csv

__all__ = ["Run", "follow", "read_run", "read_runs", "render_page", "write_csv", "write_page"]
