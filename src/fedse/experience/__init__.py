"""What a site learns from: selections that choose and weigh episodes, and the store that keeps them."""

from fedse.experience.identity import task_and_actions
from fedse.experience.selection import Verdict, get_selection, select
from fedse.experience.store import AddReport, ExperienceStore

__all__ = ["AddReport", "ExperienceStore", "Verdict", "get_selection", "select", "task_and_actions"]
