"""What environments tell of the turns of an episode: what did nothing, what was undone, what is untrue."""

from __future__ import annotations

import pytest

from fedse.agent import format_response, renderer_for
from fedse.environments import registry
from fedse.environments.base import Environment
from fedse.environments.review import Review, Seen, undone
from fedse.models.tiny import tiny_tokenizer
from fedse.rollout.episode import Episode, EpisodeRequest, reviewed
from fedse.rollout.scripted import ExpertPolicy, play
from fedse.seeding import python_random
from fedse.sites.refining import cut
from fedse.types import Source, StopReason, Trajectory

OPTIONS: dict[str, dict[str, object]] = {
    "babyai": {"levels": "one-room"},
    "maze": {"max_path": 6},
    "textcraft": {"max_depth": 2},
    "webshop": {"max_options": 1, "page_size": 3},
    "wordle": {"size": 20},
}
#: How actions begin that an agent by chance comes to take.
KINDS: dict[str, set[str]] = {
    "babyai": {"turn", "move", "go", "pickup", "drop"},
    "maze": {"move"},
    "textcraft": {"get", "craft"},
    "webshop": {"search", "click"},
    "wordle": set(),
}


def episodes(environment: Environment, count: int) -> list[Trajectory]:
    return [
        play(
            environment,
            EpisodeRequest(task, seed),
            lambda opened, seed=seed: ExpertPolicy(opened, seed),  # type: ignore[misc]
            instruction="",
            source=Source.EXPERT,
        )
        for seed, task in enumerate(environment.tasks("train")[:count])
    ]


def told_of(environment: Environment, episode: Trajectory) -> list[Review]:
    return reviewed(environment, episode.turns, episode.final_observation)[1]


@pytest.mark.parametrize("name", OPTIONS)
def test_what_experts_say_is_true(name: str) -> None:
    environment = registry.make(name, **OPTIONS[name])
    told = [review for episode in episodes(environment, 25) for review in told_of(environment, episode)]
    assert len(told) > 25
    assert all(review.truthful for review in told)


@pytest.mark.parametrize("name", ["textcraft", "webshop", "wordle"])
def test_what_experts_do_there_is_never_in_vain(name: str) -> None:
    environment = registry.make(name, **OPTIONS[name])
    for episode in episodes(environment, 25):
        assert all(review.effective for review in told_of(environment, episode))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("response", ["Thought: what now?\nAction: xyzzy", "Thought: I only think.\nAction:"])
def test_what_is_no_action_is_in_vain(name: str, response: str) -> None:
    environment = registry.make(name, **OPTIONS[name])
    episode = Episode(environment, EpisodeRequest(environment.tasks("train")[0], 0), instruction="", turns=3)
    episode.start()
    episode.reply(response)
    episode.reply(response)
    episode.reply(response)
    assert not any(review.effective for review in told_of(environment, episode.trajectory(source=Source.POLICY)))


@pytest.mark.parametrize("name", OPTIONS)
def test_ways_out_of_a_turn_in_vain_do_something(name: str) -> None:
    environment = registry.make(name, **OPTIONS[name])
    tried: set[str] = set()
    did: list[bool] = []
    for number, task in enumerate(environment.tasks("train")[:12]):
        chance = python_random(number)
        episode = Episode(environment, EpisodeRequest(task, 0), instruction="", turns=environment.spec.max_turns)
        episode.start()
        while episode.stop is None:
            episode.reply("Action: xyzzy")
            if episode.stop is not None:
                break
            ways = episode.ways_out()
            assert ways, f"nothing is offered after {episode.observation}"
            action = chance.choice(ways)
            before = episode.observation
            episode.reply(format_response("", action), by_chance=True)
            tried.add(action.split()[0].split("[")[0])
            last = Seen(before, "", action, episode.observation)
            # By itself: to come back to where one was is undone, but was done.
            did.append(episode.stop is StopReason.DONE or environment.review([last])[0].effective)
    # On a page of WebShop nothing tells the name of an option from its values.
    assert sum(did) / len(did) > (0.8 if name == "webshop" else 0.99)
    assert tried >= KINDS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_after_a_turn_that_did_something_no_way_out_is_sought(name: str) -> None:
    environment = registry.make(name, **OPTIONS[name])
    task = next(
        task
        for task, one in zip(environment.tasks("train")[:9], episodes(environment, 9), strict=True)
        if len(one.turns) > 1
    )
    episode = Episode(environment, EpisodeRequest(task, 0), instruction="", turns=5)
    episode.start()
    episode.reply(ExpertPolicy(environment, 0).act(episode.observation))
    assert episode.stop is None
    assert not episode.ways_out()


MAZE = "The goal is at position 3, 6. Your current position is at position {}. {}"
HALL = MAZE.format("5, 6", "There are walls to your right, to your left.")
ABOVE = MAZE.format("4, 6", "There is a wall to your left.")
VIEW = "In front of you in this room, you can see several objects: There is a red ball 1 2 steps in front of you. "
VIEW += "The room has walls around you. "
VIEW += 'You are facing a wall 3 steps away. You are not carrying anything.\nAvailable actions: ["go to red ball 1"]'
OPENING = "Crafting commands:\ncraft 1 bricks using 4 brick\ncraft 4 oak planks using 1 oak log\n\nGoal: craft bricks."
PAGE = "Instruction: [SEP] Find me a pink keyboard, and price lower than 40.00 dollars [SEP] B0ABCD [SEP] Fox Keyboard"
PAGE += " [SEP] $33.0 [SEP] pink"


@pytest.mark.parametrize(
    ("name", "observation", "thought", "truthful"),
    [
        ("maze", HALL, "Row 5 to 3: up. Column 6 to 6: same. Walls right, left; open up, down.", True),
        ("maze", HALL, "Row 5 to 3: down.", False),
        ("maze", HALL, "Row 4 to 3: up.", False),
        ("maze", HALL, "Column 6 to 6: right.", False),
        ("maze", HALL, "Blocked right; free left, up, down.", False),
        ("maze", HALL, "There is a wall to my left, so I go up.", True),
        ("maze", HALL, "There is a wall above me.", False),
        ("maze", HALL, "I am at position 5, 6 and the goal is two rows up.", True),
        ("maze", HALL, "I am at position 5, 7.", False),
        ("babyai", VIEW, "I have to go to a red ball. I see the red ball.", True),
        ("babyai", VIEW, "The blue key is visible.", False),
        ("babyai", VIEW, "I do not see the red ball.", False),
        ("babyai", VIEW, "No blue key in view. I turn left.", True),
        ("babyai", VIEW, "I carry the red ball.", False),
        ("textcraft", OPENING, "The goal is bricks. It uses 4 brick. Nothing crafts brick, so I fetch 4.", True),
        ("textcraft", OPENING, "The goal is oak planks. It uses 1 oak log.", False),
        ("textcraft", OPENING, "I hold 4 brick.", False),
        ("textcraft", OPENING, "No command for oak planks: I get 4.", False),
        ("webshop", PAGE, "B0ABCD costs $33.0, within $40.00.", True),
        ("webshop", PAGE, "B0ABCE costs $33.0, within $40.00.", False),
        ("webshop", PAGE, "B0ABCD costs $32.0, within $40.00.", False),
        ("webshop", PAGE, "The color is pink.", True),
        ("webshop", PAGE, "The color is teal.", False),
        ("webshop", PAGE, "I want a pink keyboard.", True),
        ("webshop", PAGE, "I want a natural bristle.", False),
        ("wordle", "Let's start Wordle!", "I start with sauce.", True),
        ("wordle", "Let's start Wordle!", "sauce gets b b b b b.", False),
        ("maze", HALL, "Onwards!", True),
    ],
)
def test_a_thought_that_contradicts_what_was_shown_is_told(
    name: str, observation: str, thought: str, truthful: bool
) -> None:
    [found] = registry.make(name, **OPTIONS[name]).review([Seen(observation, thought, "?", "")])
    assert found.truthful is truthful


def test_a_way_that_leads_back_is_undone() -> None:
    assert undone(["a", "b", "c"]) == [False, False]
    assert undone(["a", "b", "a", "c"]) == [True, True, False]
    assert undone(["a", "a", "b"]) == [True, False]
    assert undone(["a", "b", "c", "b", "a", "d"]) == [True, True, True, True, False]
    assert undone([None, None, None]) == [False, False]
    assert undone(["a"]) == []


def effective(name: str, *turns: tuple[str, str, str]) -> list[bool]:
    reviews = registry.make(name, **OPTIONS[name]).review(
        [Seen(observation, "", action, answer) for observation, action, answer in turns]
    )
    return [review.effective for review in reviews]


def test_actions_in_vain() -> None:
    assert effective(
        "maze",
        (HALL, "move up", ABOVE),
        (ABOVE, "move down", HALL),
        (HALL, "move left", HALL),
        (HALL, "move up", ABOVE),
    ) == [False, False, False, True]
    crafted = "Could not find enough items to craft minecraft:bricks"
    assert effective(
        "textcraft", (OPENING, "craft 1 bricks using 4 brick", crafted), (crafted, "get 4 brick", "Got 4 brick")
    ) == [False, True]
    hint = '"click[x]" does nothing on this page. Write search[words].'
    assert effective("webshop", (PAGE, "click[x]", hint), (hint, "click[B0ABCD]", PAGE)) == [False, True]
    assert effective(
        "wordle",
        ("Let's start Wordle!", "sauce", "b y b g g"),
        ("b y b g g", "sauce", "b y b g g"),
        ("b y b g g", "zzzzz", "invalid word"),
    ) == [True, False, False]
    other = VIEW.replace("3 steps away", "1 steps away")
    back = (other, "turn right", VIEW)
    assert effective("babyai", (VIEW, "turn left", other), back, (VIEW, "go to red ball 1", other)) == [
        False,
        False,
        True,
    ]


def test_the_inventory_is_kept_in_mind() -> None:
    crafted = "Crafted 4 minecraft:oak_planks"
    turns = [
        Seen(OPENING, "", "get 1 oak log", "Got 1 oak log"),
        Seen("Got 1 oak log", "I hold 1 oak log.", "craft 4 oak planks using 1 oak log", crafted),
        Seen(crafted, "I hold 1 oak log.", "inventory", "Inventory: [oak planks] (4) "),
        Seen("Inventory: [oak planks] (4) ", "I hold 4 oak planks.", "inventory", "Inventory: [oak planks] (4) "),
    ]
    told = registry.make("textcraft").review(turns)
    assert [review.truthful for review in told] == [True, True, False, True]


def test_a_guess_has_to_fit_all_answers() -> None:
    turns = [
        Seen("Let's start Wordle!", "I open with sauce.", "sauce", "b b b b g"),
        Seen("b b b b g", "sauce gets b b b b g. Only crane fits.", "crane", "b g b b g"),  # it has a c and an a
        Seen("b g b b g", "crane gets b g b b g. Only write fits.", "write", "b g b b g"),
        Seen("b g b b g", "write gets b g b b b. Only broke fits.", "broke", "g g g g g"),
    ]
    told = registry.make("wordle").review(turns)
    assert [review.truthful for review in told] == [True, False, True, False]


def test_environments_that_cannot_tell_take_everything_for_good() -> None:
    from helpers.counting_environment import Counting

    assert Counting().review([Seen("", "", "", "")] * 2) == [Review(), Review()]


def test_the_reader_gets_the_thought_without_its_label() -> None:
    seen: list[Seen] = []
    environment = registry.make("maze", **OPTIONS["maze"])
    environment.review = lambda turns: seen.extend(turns) or [Review()] * len(turns)  # type: ignore[method-assign,func-returns-value]
    [episode] = episodes(environment, 1)
    told_of(environment, episode)
    for turn, one in zip(episode.turns, seen, strict=True):
        assert format_response(one.thought, one.action) == turn.response
        assert one.observation == turn.observation
    assert seen[-1].answer == episode.final_observation


@pytest.mark.parametrize("name", OPTIONS)
def test_an_episode_without_its_turns_in_vain_is_one_that_can_be_played(name: str) -> None:
    environment = registry.make(name, **OPTIONS[name])
    renderer = renderer_for(tiny_tokenizer())
    shorter = 0
    for number, task in enumerate(environment.tasks("train")[:150]):
        episode = Episode(environment, EpisodeRequest(task, 0), instruction="", turns=12)
        chance = python_random(number)
        episode.start()
        while episode.stop is None:
            episode.reply("Action: xyzzy")
            if episode.stop is None:
                episode.reply(format_response("", chance.choice(episode.ways_out())), by_chance=True)
        won = episode.trajectory(source=Source.POLICY)
        if not won.success:
            continue
        short = cut(environment, renderer, won)
        shorter += len(short.turns) < len(won.turns)
        assert short.tokens == renderer.render(short)
        again = Episode(environment, EpisodeRequest(task, 0), instruction="", turns=12)
        again.start()
        for turn in short.turns:
            assert again.observation == turn.observation
            again.reply(turn.response)
        assert again.trajectory(source=Source.POLICY).success
    assert shorter > 1


def test_demonstrations_are_not_cut() -> None:
    environment = registry.make("maze", **OPTIONS["maze"])
    for episode in episodes(environment, 5):
        assert cut(environment, renderer_for(tiny_tokenizer()), episode) is episode
