"""Reports of suites and runs: one self-contained HTML page, its figures as files, and the metrics as a table.

Reads the folders and nothing else: no model, no environment, no network.
"""

from fedse.report.live import follow
from fedse.report.page import render_page, write_page
from fedse.report.study import Study, read_study, study_of_runs
from fedse.results.reading import Run, read_run, read_runs
from fedse.results.table import write_csv

__all__ = [
    "Run",
    "Study",
    "follow",
    "read_run",
    "read_runs",
    "read_study",
    "render_page",
    "study_of_runs",
    "write_csv",
    "write_page",
]
