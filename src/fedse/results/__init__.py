"""The readers' core: runs, groups of runs, standings against a reference, and how numbers are told.

Suites, reports, diagnostics, exports and commands render what they find here.
"""
