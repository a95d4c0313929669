import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.config import TrainingConfig
from fedse.errors import ConfigError, UnknownNameError
from fedse.settings import dump_config, load_config, preset_description, preset_names, reference

ONE_CLIENT = "clients: [{name: maze, environment: maze, demonstrations: 7}]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def problems(*overrides: str, preset: str | None = "quickstart", file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(preset, file, overrides)
    return caught.value.what.split("\n  - ")[1:]


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads_and_says_what_it_is_for(name, tmp_path):
    config = load_config(name, None, [])
    assert load_config(None, write(tmp_path, dump_config(config)), []) == config
    assert 20 < len(preset_description(name)) < 120
    assert config.name == name


def test_the_paper_preset_has_the_settings_of_the_paper():
    config = load_config("paper", None, [])
    assert (config.rounds, config.lora.rank, config.lora.alpha) == (20, 8, 16)
    assert (config.training.learning_rate, config.training.epochs, config.training.schedule) == (5e-5, 2, "cosine")
    assert (config.rollout.temperature, config.rollout.max_context) == (1.0, 4096)
    demonstrations = {"babyai": 810, "webshop": 3930, "textcraft": 374, "maze": 215, "wordle": 955}
    assert {client.name: client.demonstrations for client in config.clients} == demonstrations
    assert {(client.train_split, client.test_split) for client in config.clients} == {("paper-train", "paper-test")}
    assert config.evaluation.tasks is None


def test_a_later_source_overrules_an_earlier_one(tmp_path):
    file = write(tmp_path, "rounds: 7\ntraining: {learning_rate: 2e-4}\n")
    base = load_config("quickstart", None, [])
    config = load_config("quickstart", file, ["training.learning_rate=1e-5", "seed=1", "seed=2"])
    assert config.rounds == 7
    assert config.training.learning_rate == 1e-5
    assert config.training.batch_size == base.training.batch_size
    assert config.seed == 2
    assert config.clients == base.clients


def test_a_file_may_begin_from_a_preset(tmp_path):
    file = write(tmp_path, "preset: quickstart\ndescription: mine\nrounds: 9\n")
    assert load_config(None, file, []) == load_config("quickstart", None, ["rounds=9"])
    assert load_config("tiny", file, []) == load_config("tiny", None, ["rounds=9"])


def test_a_list_in_a_file_replaces_the_whole_list(tmp_path):
    config = load_config("quickstart", write(tmp_path, ONE_CLIENT), [])
    assert [client.name for client in config.clients] == ["maze"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("clients.textcraft.demonstrations=8", {"maze": 32, "textcraft": 8}),
        ("clients.1.demonstrations=8", {"maze": 32, "textcraft": 8}),
        ("clients.*.demonstrations=8", {"maze": 8, "textcraft": 8}),
    ],
)
def test_a_client_is_meant_by_name_by_index_or_all_at_once(override, expected):
    config = load_config("quickstart", None, ["clients.*.demonstrations=32", override])
    assert {client.name: client.demonstrations for client in config.clients} == expected


def test_a_client_whose_name_is_a_number_is_meant_before_the_index(tmp_path):
    file = write(tmp_path, "clients: [{name: '1', environment: maze}, {name: a, environment: maze}]")
    config = load_config(None, file, ["clients.1.demonstrations=5"])
    assert [client.demonstrations for client in config.clients] == [5, 32]


def test_options_of_an_environment_are_set_freely_and_not_shared():
    config = load_config("tiny", None, ["clients.*.options={a: [1]}", "clients.maze.options.a.0=2"])
    assert [client.options for client in config.clients] == [{"a": [2]}, {"a": [1]}]
    config = load_config("tiny", None, ["clients.maze.options.deep.er=x"])
    assert config.clients[0].options == {"deep": {"er": "x"}}


def test_a_section_set_as_a_whole_is_replaced():
    config = load_config("quickstart", None, ["training={epochs: 2}"])
    assert config.training == TrainingConfig(epochs=2)


def test_a_path_may_lead_through_a_section_that_no_source_gave(tmp_path):
    config = load_config(None, write(tmp_path, ONE_CLIENT + "rollout: null\n"), ["lora.rank=4", "rollout.slots=2"])
    assert (config.lora.rank, config.rollout.slots) == (4, 2)


def test_without_a_budget_a_round_trains_the_default_steps():
    assert (TrainingConfig().steps, TrainingConfig().epochs) == (32, None)
    assert (TrainingConfig(epochs=2).steps, TrainingConfig(epochs=2).epochs) == (None, 2)
    assert problems("training.steps=3", "training.epochs=2") == [
        "training.steps: found 3; allowed: either steps or epochs, but epochs is 2; set one of the two to null"
    ]


def test_all_problems_of_all_sources_come_at_once(tmp_path):
    file = write(tmp_path, "preset: quickstart\nroundz: 3\nlora: {rank: 0}\ntraining: {batch_size: many}\n")
    found = problems(
        "training.learning_rat=1e-4", "clients.mazes.demonstrations=1", "nonsense", "seed=[", preset=None, file=file
    )
    starts = [problem.partition(":")[0] for problem in found]
    assert starts == [
        "training.learning_rat",
        "clients.mazes.demonstrations",
        "--set 'nonsense'",
        "seed",
        "lora.rank",
        "training.batch_size",
        "roundz",
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lora.rank=0", "lora.rank: found 0; allowed: integer ≥ 1"),
        ("lora.rank=true", "lora.rank: found true; allowed: integer ≥ 1"),
        ("lora.rank='8'", 'lora.rank: found "8"; allowed: integer ≥ 1'),
        ("lora.alpha=.nan", "lora.alpha: found NaN; allowed: number > 0"),
        ("lora.alpha=1e999", "lora.alpha: found Infinity; allowed: number > 0"),
        ("lora.dropout=1.0", "lora.dropout: found 1.0; allowed: number ≥ 0 and < 1"),
        ("lora.target_modules=[1, 2]", "lora.target_modules: found [1, 2]; allowed: text or list of text"),
        ("agent.prompt=long", 'agent.prompt: found "long"; allowed: concise or full'),
        ("method.explore=no", 'method.explore: found "no"; allowed: true or false'),
        ("evaluation.tasks=0.5", "evaluation.tasks: found 0.5; allowed: integer ≥ 1 or null"),
        ("training=5", "training: found 5; allowed: mapping"),
        ("clients={}", "clients: found {}; allowed: list of mappings"),
        ("clients=[]", "clients: found []; allowed: at least one client"),
        ("clients.0=5", "clients.0: found 5; allowed: mapping"),
        ("clients.maze={name: maze}", "clients.maze.environment: missing; allowed: text"),
        ("rounds.x=1", ", so it has no 'x'"),
        ("clients.textcraft.name=Maze", "names that differ, but found twice: maze"),
        ("clients.maze.name=a.b", "allowed: letters, digits, '-' and '_' only"),
        ("clients.7.name=x", "clients.7.name: no item is called '7'; allowed: maze, textcraft, an index, *"),
        ("learning_rate=1e-3", "unknown key, found 0.001; did you mean training.learning_rate? allowed: name, seed"),
        ("environment=maze", "did you mean clients.*.environment?"),
        ("training.batchsize=8", "unknown key, found 8; did you mean batch_size? allowed: learning_rate, epochs"),
        (
            "clients.*.demonstration=8",
            "clients.*.demonstration: unknown key, found 8; did you mean demonstrations or demonstrations_file?",
        ),
        ("a..b=1", "--set 'a..b=1': write it as key=value"),
    ],
)
def test_a_problem_says_where_what_was_found_and_what_is_allowed(override, problem):
    assert any(problem in line for line in problems(override)), problems(override)


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("aggregator", "mean", "method.strategy"),
        ("sharing", "isolated", "method.strategy (isolated"),
        ("server_lr", "2", "method.options.server_lr"),
        ("restart", "true", "method.options.restart"),
    ],
)
def test_a_key_that_was_renamed_leads_to_the_one_that_took_its_place(old, value, new, tmp_path):
    said = [
        problems(f"method.{old}={value}"),
        problems(preset=None, file=write(tmp_path, f"preset: tiny\nmethod: {{{old}: {value}}}\n")),
    ]
    assert all(line.startswith(f"method.{old}: unknown key, found") and f"it is now {new}" in line for [line] in said)


def test_a_long_value_is_cut_in_the_message():
    (line,) = problems(f"agent.prompt={'x' * 500}")
    assert len(line) < 200


def test_no_source_at_all_asks_for_clients_and_offers_presets():
    with pytest.raises(ConfigError, match=r"clients: missing; allowed: list of mappings[\s\S]*quickstart"):
        load_config(None, None, [])


def test_an_unknown_preset_offers_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no preset 'quikstart'[\s\S]*did you mean quickstart\?"):
        load_config("quikstart", None, [])
    with pytest.raises(UnknownNameError, match="did you mean quickstart"):
        load_config(None, write(tmp_path, "preset: quikstart"), [])
    with pytest.raises(UnknownNameError):
        preset_description("../settings")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "run.yaml is not YAML.*line 1"),
        ("- 1", r"run.yaml holds \[1\]; allowed: a mapping"),
        ("rounds: 3\nrounds: 4", "'rounds' is there twice"),
        ("preset: [tiny]", r"preset: found \[.tiny.\]; allowed: five-sites, .*paper, .*quickstart, "),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, write(tmp_path, text), [])


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml.*No such file"):
        load_config(None, tmp_path / "missing.yaml", [])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_config(None, tmp_path / "binary.yaml", [])


def test_an_empty_file_adds_nothing(tmp_path):
    assert load_config("tiny", write(tmp_path, "# nothing\n"), []) == load_config("tiny", None, [])


segments = st.sampled_from(
    [
        "clients",
        "*",
        "0",
        "maze",
        "name",
        "options",
        "demonstrations",
        "training",
        "steps",
        "epochs",
        "lora",
        "x",
        "",
        "é",
    ]
) | st.text(max_size=4)
values = st.sampled_from(
    ["1", "-1", "0.5", "1e-3", "x", "null", "true", "[]", "{}", "[1, [2]]", "{a: {b: .nan}}", "'\\ud800'", "&a [*a]"]
) | st.text(max_size=6)
overrides = st.tuples(st.lists(segments, min_size=1, max_size=4).map(".".join), values).map("=".join) | st.text(
    max_size=8
)


@given(st.lists(overrides, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_overrides_give_a_configuration_or_a_config_error(items):
    with contextlib.suppress(ConfigError):
        assert dump_config(load_config("tiny", None, items)).encode()


@given(
    st.builds(
        TrainingConfig,
        learning_rate=st.floats(1e-9, 1e3),
        epochs=st.floats(1e-3, 1e3),
        batch_size=st.integers(1, 10**12),
    ),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_dumped_configuration_reads_back_equal(tmp_path_factory, training, options):
    base = load_config("quickstart", None, [])
    client = base.clients[0].model_copy(update={"options": options})
    config = base.model_copy(update={"training": training, "clients": (client,)})
    file = tmp_path_factory.mktemp("dump") / "run.yaml"
    file.write_text(dump_config(config), encoding="utf-8", newline="")
    assert load_config(None, file, []) == config


def test_the_documentation_lists_every_key_and_every_preset():
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert reference() in page, "put the text of fedse.settings.reference() into docs/configuration.md"
    for name in preset_names():
        assert f"| `{name}` |" in page
