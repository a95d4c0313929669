"""Numbers inside task ids."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


def task_number(text: str) -> int | None:
    """The number that ``text`` writes in its one canonical way (no sign, no leading zero), else ``None``.

    Only one spelling counts, so that a task cannot have two ids.
    """
    return int(text) if _NUMBER.fullmatch(text) else None
