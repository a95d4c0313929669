"""BabyAI's worlds move, see and judge as MiniGrid does, and ways through them are found as by the original."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.environments.babyai import cells
from fedse.environments.babyai.levels import LEVELS
from fedse.environments.babyai.missions import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE, Status
from fedse.environments.babyai.paths import AREA, find_paths, place_of
from fedse.environments.babyai.world import OWN, VIEW, World

# Mechanics, compared with MiniGrid


def test_worlds_sight_and_missions_are_those_of_minigrid() -> None:
    import gymnasium
    from minigrid.envs.babyai import GoToObj

    from fedse.environments.babyai.generation import cell_of, scene

    ended = 0
    for level in LEVELS:
        made = GoToObj(room_size=4) if level == "GoToObjS6" else gymnasium.make(f"BabyAI-{level}-v0").unwrapped
        made.reset(seed=7)
        # Not what reset returns: a level that hands the agent something does so afterwards.
        image, world, rng = made.gen_obs()["image"], World(scene(level, 7)), random.Random(level)
        for _ in range(80):
            assert world.view() == _seen(image, world.carried_code)
            assert (world.position, world.heading) == (cell_of(made.width, *made.agent_pos), made.agent_dir)
            action = rng.choice([LEFT, RIGHT, FORWARD, FORWARD, FORWARD, PICKUP, PICKUP, DROP, TOGGLE])
            ahead = made.grid.get(*made.front_pos)
            if action == TOGGLE and ahead is not None and ahead.type == "box":
                continue
            observation, reward, terminated, truncated, _ = made.step(action)
            world.act(action)
            image = observation["image"]
            assert (world.status is not Status.CONTINUE, world.time_up) == (terminated, truncated)
            assert (world.reward if world.status is Status.SUCCESS else 0) == reward
            ended += terminated
    assert ended > 50


def _seen(image: Any, carried: int) -> bytes:
    """MiniGrid's image as a view; the carried thing is in the agent's own cell in both."""
    codes = []
    for row in reversed(range(VIEW)):
        for kind, colour, state in image[:, row].tolist():
            if kind <= cells.WALL:
                codes.append(kind)
                continue
            names = {4: ("open door", "closed door", "locked door")[state], 5: "key", 6: "ball", 7: "box"}
            codes.append(cells.code_of(names[kind], cells.COLOURS[colour]))
    assert codes[OWN] == carried
    return bytes(codes)


def test_a_new_world_does_not_depend_on_those_made_before() -> None:
    from fedse.environments.babyai.generation import scene

    for level in ("GoToSeqS5R2", "BossLevel", "PutNextS7N4Carrying"):
        alone = [scene.__wrapped__(level, seed) for seed in (3, 1, 2)]
        again = [scene.__wrapped__(level, seed) for seed in (1, 2, 3)]
        assert [world.codes for world in alone[1:]] == [world.codes for world in again[:2]]
        assert (alone[0].codes, alone[0].mission, alone[0].places) == (
            again[2].codes,
            again[2].mission,
            again[2].places,
        )


# Paths


MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))


def plain_path(heading: int, blocked: set[tuple[int, int]], goal: tuple[int, int], *, arrive: bool) -> list[int] | None:
    """One search for one target in absolute coordinates, as the original makes it: the agent stands at (20, 20)."""
    vectors = ((1, 0), (0, 1), (-1, 0), (0, -1))
    forward, right = vectors[heading], vectors[(heading + 1) % 4]
    corner = [20 + 6 * forward[axis] - 3 * right[axis] for axis in (0, 1)]
    far = [corner[axis] + 7 * (right[axis] - forward[axis]) for axis in (0, 1)]
    bounds = [
        range(far[axis], corner[axis] + 1) if far[axis] < corner[axis] else range(corner[axis], far[axis])
        for axis in (0, 1)
    ]

    def absolute(cell: tuple[int, int]) -> tuple[int, int]:
        return tuple(20 + cell[0] * forward[axis] + cell[1] * right[axis] for axis in (0, 1))  # type: ignore[return-value]

    walls, target = {absolute(cell) for cell in blocked}, absolute(goal)
    start = ((20, 20), heading)
    queue, visited, came = [start], set(), {}
    while queue:
        state = queue.pop(0)
        visited.add(state)
        (x, y), way = state
        ahead = (x + vectors[way][0], y + vectors[way][1])
        if ((x, y) if arrive else ahead) == target:
            path = []
            while state != start:
                state, action = came[state]
                path.append(action)
            return path[::-1]
        for action, following in (
            (FORWARD, (ahead, way)),
            (LEFT, ((x, y), (way - 1) % 4)),
            (RIGHT, ((x, y), (way + 1) % 4)),
        ):
            inside = all(following[0][axis] in bounds[axis] for axis in (0, 1))
            if inside and following not in visited and following[0] not in walls:
                queue.append(following)
                came[following] = (state, action)
    return None


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 3),
    st.sets(st.tuples(st.integers(0, 6), st.integers(-3, 3)).filter(lambda cell: cell != (0, 0)), max_size=24),
    st.integers(1, 6),
)
def test_one_search_finds_what_a_search_for_each_target_would(
    heading: int, blocked: set[tuple[int, int]], count: int
) -> None:
    targets = sorted(blocked)[:count]
    doors = [cell for cell in [(2, 1), (4, -2), (6, 3)] if cell not in blocked]
    grid = bytes(place in {place_of(*cell) for cell in blocked} for place in range(AREA))
    facing, onto = find_paths(heading, grid, {place_of(*cell) for cell in targets}, {place_of(*cell) for cell in doors})
    for cells_wanted, found, arrive in ((targets, facing, False), (doors, onto, True)):
        for cell in cells_wanted:
            expected = plain_path(heading, blocked, cell, arrive=arrive)
            assert found.get(place_of(*cell)) == (None if expected is None else tuple(expected))
