"""What a site learns from: filters that choose episodes, and the store that keeps them."""

from fedse.experience.filters import Filter, FilterReport, Verdict, apply_filter, make_filter
from fedse.experience.store import AddReport, ExperienceStore

__all__ = ["AddReport", "ExperienceStore", "Filter", "FilterReport", "Verdict", "apply_filter", "make_filter"]
