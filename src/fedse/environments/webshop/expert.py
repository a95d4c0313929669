"""The WebShop expert: a customer who searches, reads, compares and buys."""

from __future__ import annotations

from fedse.environments.voices import voices
from fedse.environments.webshop.generator import listed
from fedse.environments.webshop.pages import BUY, NEXT, PREVIOUS
from fedse.environments.webshop.reading import Kind, Listing, View, Wish, read_page
from fedse.environments.webshop.search import analyzed
from fedse.environments.webshop.taxonomy import wordings
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

# In few words, because every token of a thought is sampled in each turn and trained on in each round; in the words of
# the page, so that a small model can copy its decision from its reason.
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


_FEATURES = "Features"
#: Pages of results that are looked at.
_PAGES = 3


class WebShopExpert:
    """Shops by what the pages say.

    It takes the first product within the price limit, reads its features unless the title names all that is asked for,
    and goes on to the next one if something is missing and turns are left.  It does not know the goal's product; it
    does know in which other words our catalogue tells an attribute, as any reader of English would.

    Args:
        turns: how many turns are left.
        seed: picks one of two ways of speaking.
    """

    def __init__(self, turns: int, seed: int) -> None:
        self._voice = python_random("webshop", "expert", seed).choice(VOICES)
        self._left = turns
        self._asin = ""
        #: Products that were opened → what they lack.
        self._lacking: dict[str, list[str]] = {}
        self._read: set[str] = set()
        #: Wanted attributes that the open product's title does not name.
        self._untold: list[str] = []
        self._clicked: set[str] = set()

    def act(self, observation: str) -> tuple[str, str]:
        """See :class:`~fedse.environments.base.Expert`."""
        view = read_page(observation)
        if view is None:
            raise EnvironmentFault(f"the webshop expert cannot act on the observation {observation!r}")
        act = {Kind.START: self._search, Kind.RESULTS: self._pick, Kind.ITEM: self._shop, Kind.TEXT: self._judge}
        thought, action = act[view.kind](view)
        self._left -= 1
        return thought, action

    def _search(self, view: View) -> tuple[str, str]:
        wish = view.wish
        thought = self._voice.search.format(_described(wish))
        return thought, _search(wish.product, *wish.attributes, *wish.options.values())

    def _pick(self, view: View) -> tuple[str, str]:
        """Open the best product of a page of results."""
        wish, voice = view.wish, self._voice
        fitting = [listing for listing in view.listings if wish.affordable(listing.price) and _same_kind(wish, listing)]
        # Opened before and found to lack nothing is fresh, too: something led the customer away from it.
        fresh = [listing for listing in fitting if not self._lacking.get(listing.asin)]
        if not fresh and view.listings and view.number < _PAGES and self._left > self._purchase(wish) + 2:
            return voice.turn, _click(NEXT)
        if not view.listings:
            return voice.broad.format(wish.product), _search(wish.product)
        # The first in order; among products that were all tried, the first that lacks least.
        listing = min(fresh or fitting or view.listings, key=lambda tried: len(self._lacking.get(tried.asin, ())))
        self._asin = listing.asin
        self._clicked = set()
        return self._why(listing, wish.limit), _click(listing.asin)

    def _why(self, listing: Listing, limit: str | None) -> str:
        voice = self._voice
        if self._lacking:
            return voice.next.format(listing.asin, listing.price)
        if limit is None:
            return voice.free.format(listing.asin, listing.price)
        return voice.first.format(listing.asin, listing.price, limit)

    def _shop(self, view: View) -> tuple[str, str]:
        """Read, choose, buy, or go back."""
        wish, voice = view.wish, self._voice
        lacking = self._lacking.setdefault(self._asin, [])
        for name, value in wish.options.items():
            if value not in view.pieces and f"{name} {value}" not in lacking:
                lacking.append(f"{name} {value}")
        self._untold = [attribute for attribute in wish.attributes if attribute not in view.title.lower()]
        open_options = [
            name for name, value in wish.options.items() if name not in self._clicked and value in view.pieces
        ]
        to_buy = len(open_options) + 1
        if lacking and self._left >= 2 + self._purchase(wish):
            return voice.reject.format(listed(lacking)), _click(PREVIOUS)
        if self._untold and not lacking and self._asin not in self._read and self._left >= 2 + to_buy:
            return voice.read.format(listed(self._untold)), _click(_FEATURES)
        if open_options:
            name = open_options[0]
            self._clicked.add(name)
            return voice.option.format(name, wish.options[name]), _click(wish.options[name])
        if lacking:
            return voice.settle, _click(BUY)
        unseen = self._untold if self._asin not in self._read else []
        return voice.trust.format(listed(unseen)) if unseen else voice.buy, _click(BUY)

    def _judge(self, view: View) -> tuple[str, str]:
        """Compare a page of text with the wish."""
        text = " ".join(view.pieces).lower()
        lacking = [attribute for attribute in self._untold if not _tells(text, attribute)]
        self._lacking.setdefault(self._asin, []).extend(lacking)
        self._read.add(self._asin)
        thought = (
            self._voice.lacks.format(listed(lacking)) if lacking else self._voice.tells.format(listed(self._untold))
        )
        return thought, _click(PREVIOUS)

    @staticmethod
    def _purchase(wish: Wish) -> int:
        """Turns from a page of a product to its purchase."""
        return len(wish.options) + 1


def _same_kind(wish: Wish, listing: Listing) -> bool:
    """Whether a title names the kind of product: the last word of the wish, in singular or plural."""
    return not {*analyzed(wish.product)[-1:]} - {*analyzed(listing.title)}


def _described(wish: Wish) -> str:
    return f"{wish.product} with {listed(wish.attributes)}" if wish.attributes else wish.product


def _search(*words: str) -> str:
    return f"search[{' '.join(words)}]"


def _click(button: str) -> str:
    return f"click[{button}]"


def _tells(text: str, attribute: str) -> bool:
    """Whether a text tells an attribute, in its own words or in one of the catalogue's others."""
    return any(words.rstrip(".").lower() in text for words in (attribute, *wordings().get(attribute, ())))
