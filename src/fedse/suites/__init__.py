"""Experiment suites: methods × ablations × seeds × models, done side by side, resumed cell by cell, in one table."""

from fedse.suites.cells import Cell, SuiteLayout
from fedse.suites.loading import dump_suite, load_suite, suite_names
from fedse.suites.reading import CellResult, CellState, SuiteResults, read_suite
from fedse.suites.suite import Suite, SuiteModel

__all__ = [
    "Cell",
    "CellResult",
    "CellState",
    "Suite",
    "SuiteLayout",
    "SuiteModel",
    "SuiteResults",
    "dump_suite",
    "load_suite",
    "read_suite",
    "suite_names",
]
