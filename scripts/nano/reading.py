"""Tasks of reading and copying in worlds that do not exist: what the nano model can do before it learns a game.

Each function makes one conversation: a system message that asks for a thought and an action, pages, and answers that
follow from the pages alone.  None of them says anything about the five environments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from fedse.agent.parsing import format_response
from nano.words import Lexicon

#: Role and text, from the system message on.
Conversation = list[tuple[str, str]]

FORM = "Reply in two lines:\nThought: <why>\nAction: <one action>"


def converse(about: str, turns: Sequence[tuple[str, str, str]]) -> Conversation:
    """A conversation from (page, thought, action) triples."""
    found: Conversation = [("system", f"{about}\n{FORM}")]
    for page, thought, action in turns:
        found += [("user", page), ("assistant", format_response(thought, action))]
    return found


def lookup(lexicon: Lexicon, size: int) -> Conversation:
    """A list of things and what each is made of; each turn asks for one."""
    rng = lexicon.rng
    names = lexicon.names(size + 4)
    things = names[:size]
    parts = [*names, *lexicon.names(6)]  # what one line makes another may use
    verb = rng.choice(("takes", "is", "from", "has", "with", lexicon.word()))
    contents = [
        ", ".join(f"{rng.randint(1, 9)} {part}" for part in rng.sample(parts, rng.randint(1, min(3, len(parts)))))
        for _ in things
    ]
    before = rng.choice(("", "", f"{lexicon.word()} "))
    counted = before and rng.random() < 0.7
    page = "\n".join(
        f"{before}{f'{rng.randint(1, 9)} ' if counted else ''}{thing} {verb} {content}"
        for thing, content in zip(things, contents, strict=True)
    )
    turns = []
    for number in range(rng.randint(4, 9)):
        index = rng.randrange(len(things))
        question = f"Goal: {things[index]}." if rng.random() < 0.5 else f"What of {things[index]}?"
        thought = f"The goal is {things[index]}. It {verb} {contents[index]}."
        action = rng.choice((f"take {contents[index]}", f"make {things[index]}"))
        first = contents[index].split(", ")[0]
        if rng.random() < 0.4:
            action = f"take {first}"
            thought = f"{things[index]} {verb} {contents[index]}. I begin with {first}."
        turns.append((f"{page}\n\n{question}" if number == 0 else question, thought, action))
    return converse("You look things up in a list.", turns)


def absent(lexicon: Lexicon, size: int) -> Conversation:
    """Is something in the list or not?"""
    rng = lexicon.rng
    names = lexicon.names(2 * size)
    listed, others = names[: len(names) // 2], names[len(names) // 2 :]
    separator = rng.choice((", ", " [SEP] ", "\n"))
    turns = []
    for number in range(rng.randint(5, 9)):
        wanted = rng.choice(listed if rng.random() < 0.5 else others)
        there = wanted in listed
        page = f"There is: {separator.join(listed)}\n" if number == 0 else ""
        thought = f"{wanted} is there." if there else f"Nothing here is {wanted}."
        turns.append((f"{page}Wanted: {wanted}", thought, f"take {wanted}" if there else "go on"))
    return converse("You say whether a thing is there.", turns)


def choose(lexicon: Lexicon, size: int) -> Conversation:
    """Take the one action of a list that a wish names; the wish changes, and at times the list."""
    rng = lexicon.rng
    verbs = [lexicon.word() for _ in range(3)]
    offers: list[str] = []
    turns = []
    for _ in range(rng.randint(4, 8)):
        page = ""
        if not offers or rng.random() < 0.3:
            names = lexicon.names(max(2, size // 3), alike=True)
            offers = [f"{verb} {name} {number}" for verb in verbs for name in names for number in (1, 2)]
            offers = rng.sample(offers, max(4, len(offers) // 2))
            page = f"\nAvailable actions: {json.dumps(offers)}"
        wanted = rng.choice(offers).rsplit(" ", 1)[0]
        offer = next(other for other in offers if other.startswith(f"{wanted} "))
        verb, name = wanted.split(" ", 1)
        page = f"Your goal: {verb} the {name}{page}"
        turns.append((page, f"My task is to {verb} the {name}. Now I {offer}.", offer))
    return converse("You choose the action that carries out the goal.", turns)


def follows(lexicon: Lexicon, size: int) -> Conversation:
    """What comes after a word of a sequence, and what after a label."""
    rng = lexicon.rng
    pieces = lexicon.names(size)
    separator = rng.choice((" [SEP] ", ", ", " "))
    if separator == " ":
        pieces = list(dict.fromkeys([piece.split()[0] for piece in pieces] + ["the", "end"]))
    page = separator.join(pieces)
    turns = []
    for number in range(rng.randint(4, 9)):
        index = rng.randrange(len(pieces) - 1)
        question = f"After {pieces[index]}?"
        thought = f"{pieces[index]} and then {pieces[index + 1]}."
        turns.append((f"{page}\n{question}" if number == 0 else question, thought, f"click[{pieces[index + 1]}]"))
    return converse("You find what follows.", turns)


def compare(lexicon: Lexicon, _size: int) -> Conversation:
    """Compare numbers, two by two; what to call the outcome is told, or is the usual."""
    rng = lexicon.rng
    kinds = lexicon.names(2, alike=False)
    told = rng.random() < 0.4
    more, less, same = lexicon.names(3, alike=False) if told else ("more", "less", "same")
    turns = []
    for _ in range(rng.randint(5, 9)):
        top = rng.choice((6, 9, 9, 12, 20, 100))
        a, b = (rng.randint(0, top), rng.randint(0, top)), (rng.randint(0, top), rng.randint(0, top))
        verdicts = [more if y > x else less if y < x else same for x, y in zip(a, b, strict=True)]
        page = f"Here: {a[0]}, {a[1]}. There: {b[0]}, {b[1]}."
        thought = f"From {kinds[0]} {a[0]} to {b[0]}: {verdicts[0]}. From {kinds[1]} {a[1]} to {b[1]}: {verdicts[1]}."
        turns.append((page, thought, f"say {verdicts[rng.random() < 0.5]}" if told else f"say {verdicts[0]}"))
    rule = f": {more} for a greater number there, {less} for a smaller one, {same} else" if told else ""
    return converse(f"You compare {kinds[0]} and {kinds[1]}{rule}.", turns)


def limits(lexicon: Lexicon, size: int) -> Conversation:
    """Which offers cost no more than the limit?"""
    rng = lexicon.rng
    turns = []
    for _ in range(rng.randint(2, 4)):
        names = lexicon.names(max(2, size // 4))
        limit = rng.randint(2, 12) * 10
        prices = [rng.randint(3, 140) + rng.choice((0.0, 0.5)) for _ in names]
        page = " [SEP] ".join(
            f"{lexicon.code()} [SEP] {name} [SEP] ${price}" for name, price in zip(names, prices, strict=True)
        )
        codes = page.split(" [SEP] ")[::3]
        fits = next((index for index, price in enumerate(prices) if price <= limit), None)
        if fits is None:
            turns.append((f"{page}\nLimit: ${limit}.00", f"All are over ${limit}.", "leave"))
        else:
            thought = f"{codes[fits]} for ${prices[fits]}, limit ${limit}.00."
            turns.append((f"{page}\nLimit: ${limit}.00", thought, f"click[{codes[fits]}]"))
    return converse("You open the first offer within the limit.", turns)


def complement(lexicon: Lexicon, _size: int) -> Conversation:
    """What is left of a few things when some are taken."""
    rng = lexicon.rng
    things = lexicon.names(rng.randint(3, 6), alike=False)
    separator = rng.choice((", ", " and "))
    turns = []
    for _ in range(rng.randint(5, 9)):
        taken = rng.sample(things, rng.randint(0, len(things) - 1))
        rest = [thing for thing in things if thing not in taken]
        gone = ", ".join(thing for thing in things if thing in taken)
        page = f"Taken: {separator.join(taken) or 'nothing'}."
        turns.append((page, f"Taken {gone or 'nothing'}; free {', '.join(rest)}.", f"take {rest[0]}"))
    return converse(f"You take the first free one of: {', '.join(things)}.", turns)


def holding(lexicon: Lexicon, _size: int) -> Conversation:
    """Remember what was given, turn after turn."""
    rng = lexicon.rng
    names = lexicon.names(rng.randint(2, 5))
    wanted = [(rng.randint(1, 9), name) for name in names]
    given: list[str] = []
    turns = []
    need = ", ".join(f"{count} {name}" for count, name in wanted)
    page = f"Needed: {need}."
    for count, name in wanted:
        thought = f"Needed: {need}. I hold {', '.join(given) or 'nothing'}. Next is {count} {name}."
        turns.append((page, thought, f"get {count} {name}"))
        given.append(f"{count} {name}")
        page = f"Got {count} {name}"
    turns.append((page, f"Needed: {need}. I hold {', '.join(given)}. Nothing is missing.", "finish"))
    return converse("You fetch one thing after another, and finish.", turns)


def spelling(lexicon: Lexicon, size: int) -> Conversation:
    """Letters of words, and words by letters."""
    rng = lexicon.rng
    words = list(dict.fromkeys(word for word in (lexicon.word() for _ in range(2 * size)) if len(word) < 9))[:size]
    turns = []
    for number in range(rng.randint(4, 8)):
        word = rng.choice(words)
        place = rng.randrange(len(word))
        page = f"{' '.join(words)}\n" if number == 0 else ""
        if rng.random() < 0.5:
            turns.append((f"{page}Spell {word}", f"{word} is {' '.join(word)}.", f"say {' '.join(word)}"))
        else:
            fits = [other for other in words if len(other) > place and other[place] == word[place]]
            question = f"{page}Letter {place + 1} is {word[place]}"
            turns.append((question, f"Letter {place + 1} is {word[place]} in {' '.join(fits)}.", fits[0]))
    return converse("You look at letters.", turns)


def quote(lexicon: Lexicon, size: int) -> Conversation:
    """Say again what stands between two marks, or a part of a sentence."""
    rng = lexicon.rng
    turns = []
    for _ in range(rng.randint(2, 4)):
        filler = [lexicon.word() for _ in range(size)]
        start = rng.randrange(len(filler) - 2)
        part = filler[start : start + rng.randint(2, 8)]
        before, after = rng.choice(
            (("find me ", " please"), ("with ", ", and"), ("the ", " now"), ("search for ", " ."))
        )
        text = " ".join([*filler[:start], f"{before}{' '.join(part)}{after}", *filler[start + len(part) :]])
        turns.append((text, f"Needed: {' '.join(part)}.", f"search[{' '.join(part)}]"))
    return converse("You say again what stands after a request.", turns)


def ordered(lexicon: Lexicon, _size: int) -> Conversation:
    """Carry out what was asked for, one word of the list after another."""
    rng = lexicon.rng
    names = lexicon.names(rng.randint(2, 6))
    page = f"Do in this order: {', '.join(names)}."
    turns = []
    for index, name in enumerate(names):
        left = ", ".join(names[index + 1 :]) or "nothing"
        turns.append((page, f"Now {name}; then {left}.", f"do {name}"))
        page = rng.choice((f"{name} is done.", "Done.", "Nothing happens."))
    return converse("You carry out a list.", turns)


TASKS: Sequence[Callable[[Lexicon, int], Conversation]] = (
    lookup,
    lookup,
    absent,
    choose,
    choose,
    follows,
    compare,
    compare,
    limits,
    complement,
    holding,
    spelling,
    quote,
    ordered,
)
