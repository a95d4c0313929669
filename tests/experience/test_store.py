import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.errors import StorageError, StoreError
from fedse.experience import AddReport, ExperienceStore, task_and_actions
from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory, Turn
from helpers.made_episodes import episode
from helpers.subprocesses import environment


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that can import the episodes of these tests and speaks to us by pipes."""
    command = [sys.executable, "-c", "import sys\n" + textwrap.dedent(code), *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=environment(), text=True, **pipes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of three episodes."""
    path = tmp_path / "client" / "experience.sqlite"
    with ExperienceStore(path) as store:
        store.add([episode(1), episode(2), episode(3)])
    return path


def test_a_new_store_is_empty_and_makes_its_folder(tmp_path):
    with ExperienceStore(tmp_path / "a" / "b" / "store") as store:
        assert store.count() == 0
        assert store.trajectories() == []
        assert store.counts_by_round_and_source() == {}


def test_episodes_come_back_equal_and_in_order_after_reopening(tmp_path):
    episodes = [episode(number) for number in (5, 3, 9, 1)]
    with ExperienceStore(tmp_path / "store") as store:
        assert store.add(episodes[:3]) == AddReport(added=3, duplicates=0)
        assert store.add(episodes[3:]) == AddReport(added=1, duplicates=0)
    with ExperienceStore(tmp_path / "store") as store:
        assert store.trajectories() == episodes
        assert store.count() == 4


def test_an_episode_is_stored_once_by_task_and_actions(path):
    with ExperienceStore(path) as store:
        again = episode(1, thought="In other words.", round=4)
        assert store.add([again, episode(4), episode(4)]) == AddReport(added=1, duplicates=2)
        assert store.trajectories() == [episode(1), episode(2), episode(3), episode(4)]
        other_task = Trajectory(**{**vars_of(episode(1)), "task": Task("maze", "another")})
        assert store.add([other_task]).added == 1


def vars_of(trajectory: Trajectory) -> dict[str, object]:
    return {name: getattr(trajectory, name) for name in Trajectory.__slots__}


def test_episodes_are_chosen_by_round_and_by_source(tmp_path):
    demonstration = episode(1, source=Source.EXPERT)
    explored = [episode(2, round=1), episode(3, round=2), episode(4, round=2)]
    with ExperienceStore(tmp_path / "store") as store:
        store.add([demonstration, *explored])
        assert store.trajectories(rounds={2}) == explored[1:]
        assert store.trajectories(rounds=range(2)) == [demonstration, explored[0]]
        assert store.trajectories(source=Source.EXPERT) == [demonstration]
        assert store.trajectories(rounds={2}, source=Source.EXPERT) == []
        counts = {(0, Source.EXPERT): 1, (1, Source.POLICY): 1, (2, Source.POLICY): 2}
        assert store.counts_by_round_and_source() == counts


def test_an_episode_without_an_outcome_enters_no_store(path):
    with ExperienceStore(path) as store:
        with pytest.raises(ValueError, match="ended in a fault"):
            store.add([episode(4), episode(5, success=None, stop=StopReason.ERROR)])
        assert store.count() == 3


def test_the_digest_tells_episodes_and_their_order_apart(tmp_path):
    def digest(name: str, *batches: list[Trajectory]) -> str:
        with ExperienceStore(tmp_path / name) as store:
            for batch in batches:
                store.add(batch)
            return store.digest()

    one = digest("a", [episode(1), episode(2)])
    assert one == digest("b", [episode(1)], [episode(2), episode(1)])
    assert one != digest("c", [episode(2), episode(1)])
    assert one != digest("d", [episode(1)])


@pytest.mark.parametrize("statement", ["UPDATE trajectories SET round = 9", "DELETE FROM trajectories"])
def test_the_file_itself_refuses_changes_and_deletions(path, statement):
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    with ExperienceStore(path) as store:
        assert store.trajectories() == [episode(1), episode(2), episode(3)]


def test_a_read_only_store_reads_and_does_not_write(path):
    before = path.read_bytes()
    with ExperienceStore(path, readonly=True) as store:
        assert store.count() == 3
        with pytest.raises(StorageError, match="readonly"):
            store.add([episode(4)])
        assert store.trajectories() == [episode(1), episode(2), episode(3)]
    assert path.read_bytes() == before


def test_a_store_in_a_folder_without_write_permission_can_be_read(path):
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with ExperienceStore(path, readonly=True) as store:
            assert store.count() == 3
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_a_missing_store_cannot_be_read_and_is_not_made(tmp_path):
    with pytest.raises(StoreError, match="no experience store at"):
        ExperienceStore(tmp_path / "store", readonly=True)
    with pytest.raises(StoreError, match="there is no experience store at") as caught:
        ExperienceStore(tmp_path / "store", create=False)
    assert "restore the file from a copy" in caught.value.mend
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_store_where_none_is_to_be_made(tmp_path):
    (tmp_path / "cut").touch()
    with pytest.raises(StoreError, match="no experience store"):
        ExperienceStore(tmp_path / "cut", create=False)
    assert (tmp_path / "cut").read_bytes() == b""


@pytest.mark.parametrize("readonly", [True, False])
def test_a_newer_store_is_refused_and_unchanged(path, readonly):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer fedse \(store format 2[\s\S]*nothing was changed[\s\S]*upgrade"):
        ExperienceStore(path, readonly=readonly)
    assert path.read_bytes() == before


def flip_the_middle(content: bytes) -> bytes:
    page = 4096 * 2  # the second b-tree page and what follows
    return content[:page] + bytes(byte ^ 0x5A for byte in content[page : page + 512]) + content[page + 512 :]


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="cut off"),
        pytest.param(flip_the_middle, id="overwritten"),
        pytest.param(lambda content: b"\x00" * 100 + content[100:], id="header gone"),
        pytest.param(lambda _: b"name: run\nseed: 0\n" * 100, id="another file"),
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(path, damage, readonly):
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()

    def use() -> None:
        with ExperienceStore(path, readonly=readonly) as store:
            store.trajectories()

    with pytest.raises(StoreError, match=rf"{path.name} is damaged or no experience store[\s\S]*left as it is"):
        use()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_damaged_record_is_named_not_skipped(path):
    content = bytearray(path.read_bytes())
    body = content.rindex(b"\x78\x9c")  # the head of a zlib stream; SQLite fills a page from its end
    content[body + 40] ^= 0xFF
    path.write_bytes(content)
    with ExperienceStore(path) as store, pytest.raises(StoreError, match=r"experience\.sqlite is damaged.*record 1"):
        store.trajectories()


def test_another_database_is_refused_and_unchanged(tmp_path):
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE trajectories (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="no experience store"):
        ExperienceStore(path)
    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_the_file_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot open the experience store"):
        ExperienceStore(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot make the folder of"):
        ExperienceStore(tmp_path / "file" / "store")


def test_a_full_disk_is_a_storage_error_and_the_store_intact(path):
    """The kernel really refuses to let the file grow here, in the middle of the transaction."""
    code = """
        import resource
        from pathlib import Path
        from helpers.made_episodes import episode
        from fedse.errors import StorageError
        from fedse.experience import ExperienceStore
        path = Path(sys.argv[1])
        with ExperienceStore(path) as store:
            free = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20_000, free[1]))
            try:
                store.add([episode(number) for number in range(10, 2000)])
            except StorageError as error:
                print(error)
            print(store.count())
            resource.setrlimit(resource.RLIMIT_FSIZE, free)
            print(store.add([episode(4)]).added)
    """
    output, errors = python(code, path).communicate(timeout=60)
    assert f"cannot write the experience store {path}" in output, errors
    assert "what it held is intact" in output
    assert output.endswith("3\n1\n"), output
    with ExperienceStore(path) as store:
        assert store.trajectories() == [episode(1), episode(2), episode(3), episode(4)]


def test_a_killed_writer_leaves_whole_batches_only(tmp_path):
    code = """
        from pathlib import Path
        from helpers.made_episodes import episode
        from fedse.experience import ExperienceStore
        with ExperienceStore(Path(sys.argv[1])) as store:
            first = store.count()
            print("ready", flush=True)
            for batch in range(10**6):
                store.add([episode(first + batch * 20 + number) for number in range(20)])
                print(store.count(), flush=True)
    """
    path = tmp_path / "store"
    delays = random.Random(0)
    confirmed = 0
    for _ in range(6):
        writer = python(code, path)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(delays.random() * 0.08)
        writer.send_signal(signal.SIGKILL)
        output, _ = writer.communicate()
        confirmed = max([confirmed, *(int(line) for line in output.splitlines(keepends=True) if line.endswith("\n"))])
        with ExperienceStore(path) as store:
            count = store.count()
            assert count % 20 == 0
            assert count >= confirmed, "an addition that was confirmed is gone"
            assert [trajectory.seed for trajectory in store.trajectories()] == list(range(count))
    assert confirmed > 0


def test_a_transaction_cut_off_on_disk_is_undone_by_a_writer_and_reported_to_a_reader(path, tmp_path):
    """A file and its hot journal, as a crash between the two leaves them."""
    code = """
        import os
        from pathlib import Path
        from helpers.made_episodes import episode
        from fedse.experience import ExperienceStore
        store = ExperienceStore(Path(sys.argv[1]))
        store._connection.execute("PRAGMA cache_size = 1")  # spills to the file within the transaction
        with store._transaction():
            store._connection.executemany(
                "INSERT INTO trajectories (key, round, source, body) VALUES (?, 0, 'policy', ?)",
                [(str(number), b"x" * 3000) for number in range(200)],
            )
            os.kill(os.getpid(), 9)
    """
    python(code, path).communicate(timeout=60)
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    with pytest.raises(StoreError, match=r"last write .* was cut off[\s\S]*open it for writing once"):
        ExperienceStore(path, readonly=True)
    with ExperienceStore(path) as store:
        assert store.trajectories() == [episode(1), episode(2), episode(3)]
    with ExperienceStore(path, readonly=True) as store:
        assert store.count() == 3


def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path):
    code = """
        from pathlib import Path
        from helpers.made_episodes import episode
        from fedse.experience import ExperienceStore
        sys.stdin.readline()
        with ExperienceStore(Path(sys.argv[1])) as store:
            for batch in range(15):
                first = int(sys.argv[2]) + batch * 10
                store.add([episode(first + number) for number in range(10)] + [episode(10**6 + batch)])
    """
    path = tmp_path / "store"
    writers = [python(code, path, first) for first in (0, 1000)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    with ExperienceStore(path) as store:
        seeds = [trajectory.seed for trajectory in store.trajectories()]
    assert sorted(seeds) == [*range(150), *range(1000, 1150), *range(10**6, 10**6 + 15)]
    for first in (0, 1000):
        own = [seed for seed in seeds if first <= seed < first + 150]
        assert own == sorted(own), "each writer's order is kept"


def test_another_process_may_make_the_store_at_the_same_moment(tmp_path, monkeypatch):
    path = tmp_path / "store"
    is_empty = ExperienceStore._is_empty
    others: list[ExperienceStore] = []

    def look_while_another_makes_it(store: ExperienceStore) -> bool:
        empty = is_empty(store)
        if not others:
            others.append(store)
            with ExperienceStore(path) as other:
                other.add([episode(1)])
        return empty

    monkeypatch.setattr(ExperienceStore, "_is_empty", look_while_another_makes_it)
    with ExperienceStore(path) as store:
        assert store.trajectories() == [episode(1)]


def test_a_store_that_stays_locked_is_reported(path, monkeypatch):
    monkeypatch.setattr("fedse.experience.store._BUSY_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    with ExperienceStore(path) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has kept"):
            store.add([episode(4)])
        other.execute("ROLLBACK")
        assert store.add([episode(4)]).added == 1
    other.close()


def test_a_copy_of_the_file_is_the_store(path, tmp_path):
    shutil.copy(path, tmp_path / "copy")
    with ExperienceStore(tmp_path / "copy") as store:
        assert store.trajectories() == [episode(1), episode(2), episode(3)]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rewards = st.floats(allow_nan=False)
turns = st.builds(Turn, observation=text, response=text, action=text, reward=rewards, truncated=st.booleans())
records = st.builds(
    TokenRecord,
    ids=st.lists(st.integers(0, 2**31), max_size=5).map(tuple),
    spans=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2).map(tuple),
    tokenizer=text,
)
trajectories = st.builds(
    Trajectory,
    task=st.builds(Task, environment=text, id=text),
    source=st.sampled_from(Source),
    instruction=text,
    turns=st.lists(turns, max_size=3).map(tuple),
    final_observation=text,
    success=st.booleans(),
    reward=rewards,
    stop=st.sampled_from([stop for stop in StopReason if stop is not StopReason.ERROR]),
    seed=st.integers(0, 2**63 - 1),
    round=st.integers(0, 10**6),
    client=text,
    tokens=st.none() | records,
)


@given(st.lists(trajectories, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_episode_comes_back_equal(tmp_path_factory, episodes):
    first_of_each: dict[str, Trajectory] = {}
    for trajectory in episodes:
        first_of_each.setdefault(task_and_actions(trajectory), trajectory)
    with ExperienceStore(tmp_path_factory.mktemp("any") / "store") as store:
        assert store.add(episodes) == AddReport(len(first_of_each), len(episodes) - len(first_of_each))
        assert store.trajectories() == list(first_of_each.values())
