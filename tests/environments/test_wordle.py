"""Wordle plays as LMRL-Gym's does, letter by letter; its expert wins and says why."""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.environments import StepResult, make
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.wordle import Wordle
from fedse.environments.wordle.engine import TRIES, Engine
from fedse.environments.wordle.environment import GREETING
from fedse.environments.wordle.expert import WordleExpert
from fedse.environments.wordle.vocabulary import PATTERNS, Vocabulary, common_words, read_words, spread
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.types import Task

POSSIBLE, ELSEWHERE, HERE = range(3)


class LetterKnowledge:
    """The original's bookkeeping as its notes describe it: per letter, what is known about each position."""

    def __init__(self, words: tuple[str, ...], seed: int) -> None:
        self.words, self.rng, self.tries, self.guessed = words, random.Random(seed), 0, set()
        self.known = {letter: [POSSIBLE] * 5 for letter in "abcdefghijklmnopqrstuvwxyz"}

    def consistent(self, word: str) -> bool:
        for letter, places in self.known.items():
            if all(place == POSSIBLE for place in places):
                continue
            if all(place == ELSEWHERE for place in places):
                if letter in word:
                    return False
                continue
            if letter not in word or any(
                (place == HERE and word[i] != letter) or (place == ELSEWHERE and word[i] == letter)
                for i, place in enumerate(places)
            ):
                return False
        return True

    def filtered(self) -> list[str]:
        return [word for word in self.words if self.consistent(word)]

    def step(self, guess: str) -> tuple[str, bool, bool]:
        """(feedback, won, done)."""
        self.tries += 1
        feedback = "invalid word"
        if guess in self.words:
            self.guessed.add(guess)
            target = self.rng.choice(self.filtered())
            for i, letter in enumerate(guess):
                if letter == target[i]:
                    self.known[letter][i] = HERE
                elif letter in target:
                    self.known[letter][i] = ELSEWHERE
                else:
                    self.known[letter] = [ELSEWHERE] * 5
            marks = []
            for i, letter in enumerate(guess):
                places = self.known[letter]
                absent = all(place == ELSEWHERE for place in places)
                marks.append("b" if absent else "g" if places[i] == HERE else "y")
            feedback = " ".join(marks) + "\n"
        left = self.filtered()
        won = len(left) == 1 and left[0] in self.guessed
        return feedback, won, won or self.tries == 6


WORDS40 = common_words(40).words
WORDS555 = common_words(555).words


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10**6),
    st.sampled_from([WORDS40, WORDS555, ("geese", "eerie", "erase", "sense", "essay", "these", "elite")]),
    st.data(),
)
def test_any_game_equals_the_original_bookkeeping(seed: int, words: tuple[str, ...], data: st.DataObject) -> None:
    reference, engine = LetterKnowledge(words, seed), Engine(Vocabulary(words), "lmrl", seed)
    while not engine.done:
        left = [words[index] for index in engine.candidates]
        guess = data.draw(st.sampled_from(left) | st.sampled_from(words) | st.just("qqqqq"))
        feedback, won, done = reference.step(guess)
        pattern = engine.guess(guess)
        assert ("invalid word" if pattern is None else " ".join(PATTERNS[pattern]) + "\n") == feedback
        assert (engine.won, engine.done) == (won, done)
        assert [words[index] for index in engine.candidates] == reference.filtered()


def opened(seed: int = 0, **options: object) -> Wordle:
    game = make("wordle", **options)
    assert isinstance(game, Wordle)
    assert game.reset(Task("wordle", str(seed))) == GREETING
    return game


def test_a_recorded_game_in_full() -> None:
    game = opened(1)
    assert game.step("b r i c k") == StepResult("b b b g g\n", 0.0, False)
    assert game.possible_words == ["clock", "shock"]
    assert game.step("s h o c k") == StepResult("b b g g g\n", 0.0, False)
    assert game.step("c l o c k") == StepResult("g g g g g\n", 1.0, True)
    with pytest.raises(EnvironmentFault, match="no open game"):
        game.step("clock")


@pytest.mark.parametrize(
    "written",
    ["brick", "b r i c k", "  br  ick ", "\tbrick\n", "b r i c k\n", "Brick", "b,r,i,c,k", "bri\nck", "the BRICK!"],
)
def test_a_word_may_be_written_with_something_between(written: str) -> None:
    assert opened(1).step(written) == StepResult("b b b g g\n", 0.0, False)


@pytest.mark.parametrize("written", ["bric", "bricks", "house", "", "br1ck", "ｂrick", "brick or house"])
def test_anything_else_is_an_invalid_word_that_costs_a_try_and_tells_nothing(written: str) -> None:
    game = opened(1)
    assert game.step(written) == StepResult(
        f'invalid word: "{written}" is not in the list. Guess a word of the list.', 0.0, False
    )
    assert len(game.possible_words) == 40
    assert game.step("brick") == StepResult("b b b g g\n", 0.0, False)


def test_six_tries_end_the_game() -> None:
    game = opened(parity=True)
    for _ in range(TRIES - 1):
        assert game.step("?") == StepResult("invalid word", 0.0, False)
    assert game.step("?") == StepResult("invalid word", 0.0, True)
    with pytest.raises(EnvironmentFault, match="no open game"):
        game.step("brick")
    game = opened(mode="fixed")
    wrong = "about" if game.step("about").reward == 0 else "album"
    game.reset(Task("wordle", "0"))
    results = [game.step(wrong) for _ in range(TRIES)]
    assert [result.done for result in results] == [False] * 5 + [True]
    assert {result.reward for result in results} == {0.0}


def test_repeated_letters_are_not_counted() -> None:
    vocabulary = Vocabulary(["geese", "there"])
    # Both e of "there" are found in their places, and still the first e of the guess is not black.
    assert PATTERNS[vocabulary.row(0)[1]] == "bygbg"


def test_the_fixed_mode_keeps_its_secret_and_the_default_draws_it_anew() -> None:
    def winners(mode: str, seed: int) -> set[str]:
        """The words that win at the second guess after "index", tried one by one in games of the same seed."""
        found = set()
        for word in WORDS40:
            game = opened(seed, mode=mode)
            if not game.step("index").done and game.step(word).done:
                found.add(word)
        return found

    fixed = [winners("fixed", seed) for seed in range(10)]
    assert all(len(words) == 1 for words in fixed)
    assert len(set(map(frozenset, fixed))) > 3
    for seed in range(10):
        game = opened(seed, mode="fixed")
        first = game.step("index").observation
        assert game.step("index").observation == first
        assert fixed[seed] <= set(game.possible_words)


@pytest.mark.parametrize(
    "task",
    [Task("wordle", "-1"), Task("wordle", "01"), Task("wordle", "one"), Task("wordle", "²"), Task("maze", "1")],
    ids=lambda task: task.id,
)
def test_tasks_that_do_not_exist_are_faults(task: Task) -> None:
    with pytest.raises(EnvironmentFault, match="there is no task"):
        Wordle().reset(task)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=12), min_size=TRIES, max_size=TRIES))
def test_any_text_is_answered(texts: list[str]) -> None:
    game = opened()
    for number, text in enumerate(texts, start=1):
        result = game.step(text)
        assert isinstance(result.observation, str)
        if result.done:
            break
        assert number < TRIES


def test_playing_on_does_not_grow_and_is_fast() -> None:
    game, rng = Wordle(), random.Random(0)

    def play(games: int) -> int:
        steps = 0
        for seed in range(games):
            game.open(seed)
            steps += 1
            while not game.step(rng.choice(WORDS40)).done:
                steps += 1
        return steps

    play(200)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        play(1000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
    start = time.process_time()
    steps = play(2000)
    # The original makes 2,051 steps/s; the margin is for slow machines.
    assert steps / (time.process_time() - start) > 20_000


# Words


def test_vocabularies_are_the_documented_choices() -> None:
    assert len(WORDS555) == 555
    assert list(WORDS555) == sorted(WORDS555)
    assert WORDS555[::13][:40] == WORDS40
    assert WORDS40[:3] == ("about", "album", "apart")
    words200 = common_words(200).words
    assert len(set(words200)) == 200
    assert words200 == tuple(WORDS555[position * 555 // 200] for position in range(200))
    assert spread([1, 2, 3], 5) == [1, 2, 3]


def test_a_file_of_words_is_read_in_its_own_order(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("zebra\n  apple \ntoolong\nfour\n\nmango")
    assert read_words(path).words == ("zebra", "apple", "mango")
    game = opened(vocab=str(path))
    assert game.spec.options["vocab"] == str(path)
    assert "zebra apple mango" in game.instruction("concise")
    path.write_text("melon\n")
    assert opened(vocab=str(path)).possible_words == ["melon"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("apple\nmango\napple\n", "line 3: 'apple' stands in line 1"),
        ("apple\nMango\n", "line 2: 'Mango' is not written in a-z"),
        ("four\n", "holds no word of 5 letters"),
        (b"\xff\xfe\xfa", "cannot be read"),
    ],
)
def test_a_bad_file_of_words_is_refused_with_its_line(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=complaint):
        make("wordle", vocab=str(path))


def test_a_file_and_a_size_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both"):
        make("wordle", vocab=str(tmp_path), size=200)


# Splits, instruction, expert


def test_splits_are_seeds_and_train_holds_no_test_seed() -> None:
    game = Wordle()
    ids = {split: {task.id for task in game.tasks(split)} for split in game.spec.splits}
    assert ids["test"] == set(map(str, range(500)))
    assert ids["train"] == set(map(str, range(1000, 3000)))
    assert ids["benchmark-test"] == set(map(str, range(25)))
    assert not ids["benchmark-test"] & (ids["train"] | ids["benchmark-train"])
    assert ids["paper-test"] == ids["benchmark-test"]
    assert ids["paper-train"] < ids["train"]
    with pytest.raises(UnknownNameError, match="did you mean train"):
        game.tasks("trian")


def test_parts_of_the_words_are_disjoint_and_complete() -> None:
    games = [make("wordle", part=f"{number}/3") for number in (1, 2, 3)]
    words = [game.possible_words for game in games]
    assert sorted(map(len, words)) == [13, 13, 14]
    assert sorted(word for part in words for word in part) == sorted(WORDS40)
    assert make("wordle", part="1/3@5").possible_words not in words
    for game in games:
        for seed, task in enumerate(game.tasks("test")[:20]):
            episode(game, task, seed)
    other = next(word for word in words[1])
    games[0].reset(Task("wordle", "1"))
    assert games[0].step(other).observation.startswith("invalid word")


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", 2, "1/3@", "one/two"])
def test_what_is_no_part_is_refused(part: object) -> None:
    with pytest.raises(ConfigError, match="part must be a part such as"):
        make("wordle", part=part)
    with pytest.raises(ConfigError, match="too few for 50 parts"):
        make("wordle", part="45/50")


def test_traits_tell_how_the_best_guesses_fare() -> None:
    game = Wordle()
    traits = [game.traits(task) for task in game.tasks("test")[:60]]
    for task, told in zip(game.tasks("test"), traits, strict=False):
        game.reset(task)
        marks = game.step("scare").observation.split()
        assert told.kind == f"{sum(mark != 'b' for mark in marks)} letters"
        assert told.size == len(game.possible_words)
    assert {told.difficulty for told in traits} == {1, 2, 3} or {told.difficulty for told in traits} == {2, 3}


@pytest.mark.parametrize("style", ["concise", "full"])
def test_the_instruction_lists_all_words_and_its_example_is_right(style: str) -> None:
    text = Wordle().instruction(style)
    assert " ".join(WORDS40) in text
    if style == "full":
        example = Vocabulary(["stone", "spoon", "sharp"])
        assert f"receive {' '.join(PATTERNS[example.row(0)[1]])}:" in text
        assert example.consistent(example.all, 0, example.row(0)[1]) == (1,)


def episode(game: Wordle, task: Task, seed: int) -> list[tuple[str, str, str]]:
    """(thought, action, answer) of every turn of a game that the expert wins."""
    turns = []
    observation = game.reset(task)
    expert = game.expert(seed)
    for _ in range(game.spec.max_turns):
        thought, action = expert.act(observation)
        result = game.step(action)
        observation = result.observation
        turns.append((thought, action, observation))
        if result.done:
            assert result.reward > game.spec.success_above, turns
            return turns
    raise AssertionError(f"{task} was not won")


@pytest.mark.parametrize("mode", ["lmrl", "fixed"])
def test_the_expert_wins_every_task_of_every_split(mode: str) -> None:
    game = make("wordle", mode=mode)
    lengths = []
    for split in ("train", "test", "benchmark-train", "benchmark-test"):
        lengths += [len(episode(game, task, seed)) for seed, task in enumerate(game.tasks(split))]
    assert statistics.mean(lengths) < 2.3


def test_the_expert_guesses_consistent_words_and_its_thoughts_are_true_and_short() -> None:
    game = Wordle()
    for seed, task in enumerate(game.tasks("test")):
        game.reset(task)
        expert, observation = game.expert(seed), GREETING
        done = False
        while not done:
            possible = game.possible_words
            thought, action = expert.act(observation)
            assert action in possible
            assert len(thought.split()) <= 30
            if observation == GREETING:
                assert thought.endswith(f"{action}.")
            else:
                fitting = thought.split(". ")[1]
                named = [word for word in WORDS40 if word in fitting]
                assert set(named) <= set(possible)
                assert len(named) == min(len(possible), 2)
                assert len(possible) < 3 or f"or {len(possible) - 2} more" in fitting
                assert fitting.replace("Only ", "").startswith(action)
            result = game.step(action)
            observation, done = result.observation, result.done


def test_the_expert_reads_the_feedback_aloud() -> None:
    expert = WordleExpert(common_words(40), seed=0)
    _, opening = expert.act(GREETING)
    assert opening == "scare"
    thought, _ = expert.act("g y b b b\n")
    assert thought.split(". ")[0].removeprefix("scare").split()[1:] == ["g", "y", "b", "b", "b"]


def test_choices_are_concentrated_and_vary_a_little() -> None:
    game = Wordle()
    games = [[action for _, action, _ in episode(game, task, seed)] for seed, task in enumerate(game.tasks("train"))]
    assert {actions[0] for actions in games} == {"scare"}
    second = Counter(actions[1] for actions in games if len(actions) > 1)
    assert len(second) < 40
    told = {episode(game, Task("wordle", "1"), seed)[1][0] for seed in range(30)}
    assert len(told) >= 2


def test_the_expert_refuses_what_is_no_feedback() -> None:
    expert = WordleExpert(common_words(40), seed=0)
    expert.act(GREETING)
    with pytest.raises(EnvironmentFault, match="expected feedback"):
        expert.act("invalid word")
    with pytest.raises(EnvironmentFault, match="no word of the vocabulary fits"):
        expert.act("y y y y y\n")


# AgentGym's payloads


def test_sessions_give_the_original_payloads() -> None:
    session = counterpart_of(Wordle(parity=True)).session(slot=4)
    assert "no open game" in session.step("brick")["error"]
    assert session.reset(seed=1) == {"id": 4, "observation": GREETING}
    valid, invalid = session.step("brick"), session.step("house")
    assert valid == {"observation": "b b b g g\n", "reward": 0, "done": False}
    assert invalid == {"observation": "invalid word", "reward": 0.0, "done": False}
    assert (type(valid["reward"]), type(invalid["reward"])) == (int, float)
    session.step("shock")
    assert session.step("clock") == {"observation": "g g g g g\n", "reward": 1, "done": True}
    assert session.step("clock") == {"error": "The task with environment 4 has finished."}
    assert "observation" in session.reset(seed=1)


def test_the_possible_words_are_told_before_the_first_guess_only_except_in_parity() -> None:
    mended, faithful = counterpart_of(make("wordle")).session(), counterpart_of(make("wordle", parity=True)).session()
    for session in (mended, faithful):
        session.reset(seed=1)
        assert session.filtered_vocab() == list(WORDS40)
        session.step("brick")
    assert faithful.filtered_vocab() == ["clock", "shock"]
    assert "before the first guess only" in mended.filtered_vocab()["error"]
    mended.step("shock")
    mended.step("clock")
    assert mended.filtered_vocab() == {"error": "The task with environment 0 has finished."}
    mended.reset(seed=2)
    assert mended.filtered_vocab() == list(WORDS40)
