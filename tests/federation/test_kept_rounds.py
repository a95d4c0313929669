"""What a server keeps of a round comes back bit for bit, and is written once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedse.errors import AdapterError, FedseError, RunError
from fedse.runs.layout import ServerFolder
from fedse.runs.rounds import GLOBAL, State, adapter_folder, load_state, save_round
from helpers.small_adapters import A_NAME, random_state, with_tensor

ARRAYS = {
    "velocity/b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "velocity/a": np.array([-0.0, 1e-45, 3e38], np.float32),
}
NUMBERS = {"rounds": 2.0, "β": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308}


def states_equal(first: State, second: State) -> bool:
    return (
        {name: (adapter.digest, adapter.meta) for name, adapter in first.adapters.items()}
        == {name: (adapter.digest, adapter.meta) for name, adapter in second.adapters.items()}
        and {name: (array.dtype, array.shape, array.tobytes()) for name, array in first.arrays.items()}
        == {name: (array.dtype, array.shape, array.tobytes()) for name, array in second.arrays.items()}
        and first.numbers == second.numbers
    )


def inbox(folder: Path, **replies: bytes) -> Path:
    """Replies as they came."""
    made = folder / "inbox"
    made.mkdir()
    for site, data in replies.items():
        (made / site).write_bytes(data)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    return ServerFolder(tmp_path)


def test_a_state_comes_back(folder: ServerFolder, tmp_path: Path) -> None:
    adapters = {GLOBAL: random_state(1), "alpha": random_state(2), "_own": random_state(3)}
    state = State(adapters, ARRAYS, NUMBERS)
    save_round(folder, 0, state, inbox(tmp_path, alpha=b"reply"))
    assert states_equal(load_state(folder, 0), state)
    assert folder.reply(0, "alpha").read_bytes() == b"reply"
    assert folder.global_adapter(0).is_dir()


def test_arrays_need_not_lie_in_one_piece(folder: ServerFolder) -> None:
    strided = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {"columns": strided[:, ::2], "turned": strided.T, "fortran": np.asfortranarray(strided)}
    state = State({GLOBAL: random_state(1)}, arrays | {"number": np.array(3, np.float32), "empty": strided[:0]})
    save_round(folder, 0, state)
    assert states_equal(load_state(folder, 0), state)


def test_without_arrays_there_is_no_file_for_them(folder: ServerFolder) -> None:
    state = State({GLOBAL: random_state(1)})
    save_round(folder, 0, state)
    assert states_equal(load_state(folder, 0), state)
    assert sorted(path.name for path in folder.round(0).iterdir()) == ["global", "state.json"]


def test_equal_states_make_equal_bytes(tmp_path: Path) -> None:
    contents = set()
    for number, order in enumerate(([0, 1], [1, 0])):
        folder = ServerFolder(tmp_path / str(number))
        adapters = {GLOBAL: random_state(1), "alpha": random_state(2)}
        state = State(
            {name: adapters[name] for name in [list(adapters)[i] for i in order]},
            {name: ARRAYS[name] for name in [list(ARRAYS)[i] for i in order]},
            {name: NUMBERS[name] for name in [list(NUMBERS)[i] for i in order]},
        )
        save_round(folder, 0, state)
        files = [path for path in sorted(folder.root.rglob("*")) if path.is_file()]
        contents.add(tuple((str(path.relative_to(folder.root)), path.read_bytes()) for path in files))
    assert len(contents) == 1


def written(folder: ServerFolder) -> list[str]:
    """The adapter folders there are."""
    found = folder.root.rglob("adapter_config.json")
    return sorted(str(path.parent.relative_to(folder.root / "rounds")) for path in found)


def test_equal_adapters_are_written_once(folder: ServerFolder) -> None:
    state = State(dict.fromkeys((GLOBAL, "alpha", "beta"), random_state(1)))
    save_round(folder, 0, state)
    assert written(folder) == ["000/global"]
    assert states_equal(load_state(folder, 0), state)
    alone = State(dict.fromkeys(("alpha", "beta"), random_state(1)))
    save_round(folder, 1, alone, before=state)
    assert written(folder) == ["000/global"], "both are where they were"
    assert states_equal(load_state(folder, 1), alone)


def test_what_stays_is_referred_to_over_many_rounds(folder: ServerFolder) -> None:
    states = [State({GLOBAL: random_state(0), "_initial": random_state(0), "alpha": random_state(9)})]
    save_round(folder, 0, states[0])
    for number in (1, 2, 3):
        changed = {"alpha": random_state(7)} if number == 2 else {}
        states.append(State(states[-1].adapters | {GLOBAL: random_state(number)} | changed))
        save_round(folder, number, states[number], before=states[number - 1])
    for number, state in enumerate(states):
        assert states_equal(load_state(folder, number), state)
    assert written(folder) == [
        "000/adapters/alpha",
        "000/global",
        "001/global",
        "002/adapters/alpha",
        "002/global",
        "003/global",
    ]
    assert adapter_folder(folder, 3, "_initial") == folder.global_adapter(0)
    assert adapter_folder(folder, 3, "alpha") == folder.round(2) / "adapters" / "alpha"
    assert adapter_folder(folder, 3) == adapter_folder(folder, 3, "beta") == folder.global_adapter(3)


def test_every_round_has_its_own_global_adapter(folder: ServerFolder) -> None:
    state = State({GLOBAL: random_state(1)})
    for number in (0, 1):
        save_round(folder, number, state, before=state if number else None)
    assert written(folder) == ["000/global", "001/global"]


def test_a_round_that_is_there_is_replaced_as_a_whole(folder: ServerFolder, tmp_path: Path) -> None:
    save_round(folder, 0, State({GLOBAL: random_state(1)}, ARRAYS), inbox(tmp_path, alpha=b"old"))
    state = State({"alpha": random_state(2)})
    save_round(folder, 0, state, inbox(tmp_path, beta=b"new"))
    assert states_equal(load_state(folder, 0), state)
    assert [path.name for path in (folder.round(0) / "replies").iterdir()] == ["beta"]
    assert not list(folder.root.rglob(".*"))


def test_an_unsound_adapter_leaves_nothing(folder: ServerFolder) -> None:
    unsound = with_tensor(random_state(1), A_NAME, np.full((2, 5), np.nan, np.float32))
    with pytest.raises(AdapterError, match="NaN"):
        save_round(folder, 0, State({GLOBAL: unsound}))
    assert not list(folder.root.rglob("*.json"))


def test_a_site_without_any_adapter_is_told(folder: ServerFolder) -> None:
    state = State({"alpha": random_state(1), "_initial": random_state(1)})
    save_round(folder, 0, state)
    with pytest.raises(RunError, match="there is no global adapter"):
        state.adapter("beta")
    with pytest.raises(RunError, match=r"every site has its own \(alpha\)"):
        adapter_folder(folder, 0, "beta")


@pytest.mark.parametrize("damaged", ["state.json", "state.safetensors", "global/adapter_model.safetensors"])
def test_damage_is_told_with_the_file(folder: ServerFolder, damaged: str) -> None:
    save_round(folder, 0, State({GLOBAL: random_state(1)}, ARRAYS, NUMBERS))
    path = folder.round(0) / damaged
    for content in (b"", b"{}", path.read_bytes()[:-3]):
        path.write_bytes(content)
        with pytest.raises(FedseError, match=damaged) as caught:
            load_state(folder, 0)
        assert caught.value.mend


def test_a_newer_format_is_told(folder: ServerFolder) -> None:
    save_round(folder, 0, State({GLOBAL: random_state(1)}))
    path = folder.round(0) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(RunError, match="newer"):
        load_state(folder, 0)


def test_a_round_that_is_not_there_is_told(folder: ServerFolder) -> None:
    with pytest.raises(RunError, match="after round 7"):
        load_state(folder, 7)
