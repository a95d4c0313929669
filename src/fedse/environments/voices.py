"""How experts speak: the same phrases in several wordings, of which an expert keeps to one through an episode."""

from __future__ import annotations

from collections.abc import Mapping


class Voice:
    """One way of speaking.  Every phrase is an attribute: a template for ``str.format``."""

    def __init__(self, phrases: Mapping[str, str]) -> None:
        self.__dict__.update(phrases)

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"this voice has no phrase {name!r}")


def voices(**phrases: tuple[str, ...]) -> tuple[Voice, ...]:
    """The voices of an expert, from name of a phrase → its wordings, one for each voice."""
    return tuple(Voice(dict(zip(phrases, wordings, strict=True))) for wordings in zip(*phrases.values(), strict=True))
