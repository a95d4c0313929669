"""What crosses between a server and a site: an :class:`Instruction` one way, a :class:`Reply` back, both as bytes.

There is no other channel.  Each message has one encoding (:mod:`fedse.adapters.codec`), and every runtime passes it,
also inside one process, so that the tests of what leaves a site test the channel that is used.
"""

from fedse.messages.instruction import Instruction, Purpose
from fedse.messages.reply import SCALARS, Diverged, Done, Rates, Refused, Reply, Update
from fedse.messages.report import DEFAULT_FIELDS, FIELDS, PhaseSummary, SiteReport, TaskSummary
from fedse.messages.work import Work

__all__ = [
    "DEFAULT_FIELDS",
    "FIELDS",
    "SCALARS",
    "Diverged",
    "Done",
    "Instruction",
    "PhaseSummary",
    "Purpose",
    "Rates",
    "Refused",
    "Reply",
    "SiteReport",
    "TaskSummary",
    "Update",
    "Work",
]
