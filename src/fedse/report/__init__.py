"""Reports of suites and runs: one self-contained HTML page, and its figures as files.

Reads the folders and nothing else: no model, no environment, no network.
"""

from fedse.report.live import follow
from fedse.report.page import check_subject, render_page, write_page
from fedse.report.study import Study, read_study, study_of_runs

__all__ = ["Study", "check_subject", "follow", "read_study", "render_page", "study_of_runs", "write_page"]
