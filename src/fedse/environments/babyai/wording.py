"""What spells an action otherwise than the list of available actions has it."""

from __future__ import annotations

import re
from collections.abc import Collection

from fedse.environments.forgiving import meant, plain

_NUMBER = re.compile(r" [0-9]+$")


def spelled(action: str, known: Collection[str]) -> str:
    """The known action that ``action`` spells; unchanged if none or several.

    "pick up" is "pickup", and the number of a thing may be left out if there is but one such thing.

    Args:
        action: what the agent says.
        known: what is possible now, and what has an answer of its own although it is not.
    """
    said = plain(action)
    if said.startswith("pick up "):
        said = said.replace("pick up", "pickup", 1)
    if (exact := meant(said, known)) is not None:
        return exact
    only = [text for text in known if _NUMBER.sub("", text) == said]
    return only[0] if len(only) == 1 else action
