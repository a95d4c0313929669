"""The rules of Wordle as told to an agent."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.environments.base import PromptStyle

_CONCISE = """\
Guess the hidden five-letter word in 6 tries. Every guess must be a word of this list:
{words}
The answer has one letter for each letter of your guess: g means right letter in the right place, y means the \
letter is elsewhere in the word, b means it is not in the word. A guess outside the list is an invalid word \
and costs a try.
Guess only words that fit all answers so far. The action is the word alone."""

_FULL = """\
You play Wordle: find a hidden word of five letters within 6 tries.

These are the words that can be hidden, and the only words that you may guess:
{words}

After each guess you receive five marks, one for each letter of your guess in order:
g (green): this letter stands at exactly this place;
y (yellow): the word contains this letter, but at another place;
b (black): the word does not contain this letter.
Marks do not count repeated letters: two equal letters can both be yellow though the word holds the letter \
once. A guess that is not in the list is answered with "invalid word", tells you nothing and still costs one \
of your tries.

Use every mark you have seen. Keep green letters in place, move yellow letters elsewhere, drop black letters, \
and guess only words of the list that agree with all marks. Among those, prefer a word that separates the \
remaining ones well.

For example, suppose that the list held just stone, spoon and sharp. You guess stone and receive g b g y b: the \
word begins with s, has o in the middle, holds n at another place, and holds neither t nor e. Only spoon agrees, so \
the next action is: spoon. The answer g g g g g then ends the game.

The action is the word alone, in small letters."""


def instruction(words: Sequence[str], style: PromptStyle) -> str:
    """The rules, with the vocabulary listed."""
    return (_CONCISE if style == "concise" else _FULL).format(words=" ".join(words))
