"""How the WebShop expert speaks.

In few words, because every token of a thought is sampled in each turn and trained on in each round; and in the words of
the page, so that a small model can copy its decision from its reason.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """One way of speaking, kept through an episode.

    Attributes:
        search: on the start page; takes the product and its attributes.
        broad: after a search without results; takes the product.
        first: a product within the limit; takes its number, its price and the limit.
        free: the same without a limit; takes number and price.
        next: a product after others were tried; takes number and price.
        turn: nothing left to try on this page of results.
        read: why the features are read; takes the attributes not named in the title.
        tells, lacks: what the features said; takes the attributes found, or not found.
        reject: why another product is sought; takes what is missing.
        option: takes the option's name and the value.
        buy, trust, settle: all is right; some attributes were not checked, which it takes; something is wrong.
    """

    search: str
    broad: str
    first: str
    free: str
    next: str
    turn: str
    read: str
    tells: str
    lacks: str
    reject: str
    option: str
    buy: str
    trust: str
    settle: str


VOICES = (
    Phrases(
        search="I want {}.",
        broad="Nothing found. I search for {} alone.",
        first="{} costs {}, within ${}.",
        free="{} comes first at {}, no limit.",
        next="Next is {} at {}.",
        turn="Nothing more fits here.",
        read="Not in the title: {}.",
        tells="Features tell {}.",
        lacks="Features lack {}.",
        reject="It lacks {}. Back.",
        option="The {} is {}.",
        buy="All fits. Buy.",
        trust="No turns to check {}. Buy.",
        settle="No turns to look further. Buy.",
    ),
    Phrases(
        search="Needed: {}.",
        broad="No results. Only {} then.",
        first="I try {} for {}, limit ${}.",
        free="I try {} for {}, any price.",
        next="Now I try {} for {}.",
        turn="I need other results.",
        read="To check: {}.",
        tells="It has {}.",
        lacks="It has no {}.",
        reject="Without {}, I go back.",
        option="Option {}: {}.",
        buy="Everything is right.",
        trust="I cannot check {} now.",
        settle="My turns run out.",
    ),
)
