"""How the WebShop expert speaks.

In few words, because every token of a thought is sampled in each turn and trained on in each round; and in the words of
the page, so that a small model can copy its decision from its reason.
"""

from __future__ import annotations

from fedse.environments.voices import voices

VOICES = voices(
    # On the start page: the product and its attributes.
    search=("I want {}.", "Needed: {}."),
    # After a search without results: the product.
    broad=("Nothing found. I search for {} alone.", "No results. Only {} then."),
    # A product within the limit: its number, its price, the limit.
    first=("{} costs {}, within ${}.", "I try {} for {}, limit ${}."),
    # The same without a limit: number and price.
    free=("{} comes first at {}, no limit.", "I try {} for {}, any price."),
    # A product after others were tried: number and price.
    next=("Next is {} at {}.", "Now I try {} for {}."),
    # Nothing is left to try on this page of results.
    turn=("Nothing more fits here.", "I need other results."),
    # Why the features are read: the attributes not named in the title.
    read=("Not in the title: {}.", "To check: {}."),
    # What the features said: the attributes found, or not found.
    tells=("Features tell {}.", "It has {}."),
    lacks=("Features lack {}.", "It has no {}."),
    # Why another product is sought: what is missing.
    reject=("It lacks {}. Back.", "Without {}, I go back."),
    # The option's name and the value.
    option=("The {} is {}.", "Option {}: {}."),
    # All is right; some attributes, which it names, were not checked; something is wrong.
    buy=("All fits. Buy.", "Everything is right."),
    trust=("No turns to check {}. Buy.", "I cannot check {} now."),
    settle=("No turns to look further. Buy.", "My turns run out."),
)
