"""What a purchase is worth, as in WebShop (Yao et al., arXiv 2207.01206, section 3.1 and appendix).

reward = r_type · (matched attributes + matched options + price kept) / (attributes + options + 1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, utils

from fedse.environments.webshop.nouns import NounExtractor
from fedse.environments.webshop.products import Goal, Product

# The named colours of CSS (W3C, CSS Color Module Level 4, section 6.1); the original has a list of its own, much alike.
_CSS = """
aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue blueviolet brown burlywood cadetblue
chartreuse chocolate coral cornflowerblue cornsilk crimson cyan darkblue darkcyan darkgoldenrod darkgray darkgreen
darkgrey darkkhaki darkmagenta darkolivegreen darkorange darkorchid darkred darksalmon darkseagreen darkslateblue
darkslategray darkslategrey darkturquoise darkviolet deeppink deepskyblue dimgray dimgrey dodgerblue firebrick
floralwhite forestgreen fuchsia gainsboro ghostwhite gold goldenrod gray green greenyellow grey honeydew hotpink
indianred indigo ivory khaki lavender lavenderblush lawngreen lemonchiffon lightblue lightcoral lightcyan
lightgoldenrodyellow lightgray lightgreen lightgrey lightpink lightsalmon lightseagreen lightskyblue lightslategray
lightslategrey lightsteelblue lightyellow lime limegreen linen magenta maroon mediumaquamarine mediumblue mediumorchid
mediumpurple mediumseagreen mediumslateblue mediumspringgreen mediumturquoise mediumvioletred midnightblue mintcream
mistyrose moccasin navajowhite navy oldlace olive olivedrab orange orangered orchid palegoldenrod palegreen
paleturquoise palevioletred papayawhip peachpuff peru pink plum powderblue purple rebeccapurple red rosybrown royalblue
saddlebrown salmon sandybrown seagreen seashell sienna silver skyblue slateblue slategray slategrey snow springgreen
steelblue tan teal thistle tomato turquoise violet wheat white whitesmoke yellow yellowgreen
"""

#: In alphabetical order, which decides where a text holds several.
COLOURS = tuple(sorted(_CSS.split()))


def first_colour(text: str) -> str | None:
    """The first colour, in alphabetical order, that occurs in ``text``, even inside a word: "tan" in "titanium"."""
    return next((colour for colour in COLOURS if colour in text), None)


#: Texts that are more similar than this, of 100, count as the same.
_SAME = 85
#: The title score of a goal whose name has no nouns.
_NO_NOUNS = 0.2
#: Code points that the original's fuzzy matching drops (Latin-1 letters and signs).
_DROPPED = dict.fromkeys(range(128, 256))


@dataclass(frozen=True, slots=True)
class Score:
    """A reward and its parts, all between 0 and 1; the shares ``w_…`` sum to 1."""

    reward: float  #: the whole
    r_type: float  #: how far the kind of product is right
    query_match: bool  #: the product was filed under the same query
    category_match: bool  #: the breadcrumbs share two parts or more
    title_score: float  #: share of the nouns in the wanted product's name that the bought one's name holds
    #: r_att, w_att: share of attributes that match, and what they count
    r_att: float
    w_att: float
    #: r_option, w_option: the same for options; ``None`` if the goal has none
    r_option: float | None
    w_option: float | None
    #: r_price, w_price: whether the price is kept, and what that counts
    r_price: bool
    w_price: float


def score(
    bought: Product, chosen: Mapping[str, str], goal: Goal, *, nouns: NounExtractor, parity: bool = False
) -> Score:
    """Judge a purchase.

    Args:
        bought: the product.
        chosen: option name → value, as clicked.
        goal: what was wanted.
        nouns: finds the nouns in product names.
        parity: compare options as the original does, see :func:`_alike_options`; otherwise the wanted value itself
            must have been chosen.
    """
    r_type, query_match, category_match, title_score = _type(bought, goal.product, nouns)
    attributes = sum(_has(bought, attribute) for attribute in goal.attributes)
    options = (_alike_options if parity else _same_options)(chosen, goal.options)
    kept = bought.price <= goal.price_upper
    parts = len(goal.attributes) + len(goal.options) + 1
    return Score(
        reward=r_type * ((attributes + options + kept) / parts),
        r_type=r_type,
        query_match=query_match,
        category_match=category_match,
        title_score=title_score,
        r_att=attributes / len(goal.attributes),
        w_att=len(goal.attributes) / parts,
        r_option=options / len(goal.options) if goal.options else None,
        w_option=len(goal.options) / parts if goal.options else None,
        r_price=kept,
        w_price=1 / parts,
    )


def similarity(first: str, second: str) -> int:
    """Similarity of two texts as sets of words, 0 to 100, rounded as by thefuzz 0.22, which the original calls."""
    return round(
        fuzz.token_set_ratio(
            utils.default_process(first.translate(_DROPPED)), utils.default_process(second.translate(_DROPPED))
        )
    )


def _type(bought: Product, wanted: Product, nouns: NounExtractor) -> tuple[float, bool, bool, float]:
    query_match = bought.query == wanted.query
    category_match = len(_places(bought) & _places(wanted)) >= 2
    wanted_nouns = nouns(wanted.title)
    # A set over a list, as in the original: a noun repeated in the wanted name can be matched only once.
    title_score = len({*wanted_nouns} & {*nouns(bought.title)}) / len(wanted_nouns) if wanted_nouns else _NO_NOUNS
    r_type = 1.0
    if not (query_match or category_match or title_score > 0.2):
        r_type = 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0:
        r_type = 0.0
    return r_type, query_match, category_match, title_score


def _places(product: Product) -> set[str]:
    return {place.strip() for place in product.breadcrumb.split("›")}


def _has(product: Product, attribute: str) -> bool:
    """Whether a product has an attribute, by its list or by the letter of its texts."""
    return any(similarity(own, attribute) > _SAME for own in product.attributes) or any(
        attribute in text.lower() for text in (product.title, " ".join(product.bullets), product.description)
    )


def _same_options(chosen: Mapping[str, str], wanted: Mapping[str, str] | Sequence[str]) -> int:
    if isinstance(wanted, Mapping):
        return sum(chosen.get(name) == value for name, value in wanted.items())
    return sum(value in chosen.values() for value in wanted)


def _alike_options(chosen: Mapping[str, str], wanted: Mapping[str, str] | Sequence[str]) -> int:
    """How many wanted options the original finds among the chosen values.

    It replaces chosen values by the first colour word that occurs anywhere in them, and compares them with the text of
    the pair (name, value) as sets of words.  So "large" is as good as "x-large", and "rectangular" ("tan") is never
    right.
    """
    values = [first_colour(value) or value for value in chosen.values()]
    return sum(any(similarity(value, text) > _SAME for value in values) for text in _wanted_texts(wanted))


def _wanted_texts(wanted: Mapping[str, str] | Sequence[str]) -> list[str]:
    if isinstance(wanted, Mapping):
        # A pair is replaced by a colour only if its name or its value is one.
        return [next((colour for colour in COLOURS if colour in pair), str(pair)) for pair in wanted.items()]
    return [first_colour(value) or value for value in wanted]
