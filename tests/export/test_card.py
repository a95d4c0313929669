from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from fedse.export.card import Kind, model_card
from helpers.export_runs import made_run, origin


def card_of(folder: Path, *, round: int = 2, client: str = "", kind: Kind = "adapter", **run: Any) -> str:
    return model_card(origin(made_run(folder, **run), round, client), kind)


def section(card: str, heading: str) -> str:
    return card.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_hub_reads_the_header(tmp_path: Path) -> None:
    data = ModelCard(card_of(tmp_path, model="someone/model")).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("someone/model", "peft", "text-generation")
    assert {(found.dataset_type, found.dataset_split, found.metric_value) for found in data.eval_results} == {
        ("fedse/maze", "test", 0.5),
        ("fedse/wordle", "test", 0.25),
    }
    assert "license" not in data.to_dict()
    merged = ModelCard(card_of(tmp_path / "other", kind="merged")).data
    assert (merged.library_name, merged.base_model) == ("transformers", None)


def test_the_results_are_those_of_the_run(tmp_path: Path) -> None:
    results = section(card_of(tmp_path), "Results")
    assert "| maze | 8 | 0 % [0, 32] | 50 % [22, 78] |" in results
    assert "| wordle | 8 | 0 % [0, 32] | 25 % [7, 59] |" in results
    assert "| mean of environments |  | 0 % | 38 % |" in results


def test_the_data_are_counted_up_to_the_round(tmp_path: Path) -> None:
    assert "| east | maze | train | test | 5 | 8 | 3 | 3 |" in section(card_of(tmp_path / "2"), "Data")
    assert "| east | maze | train | test | 5 | 4 | 1 | 1 |" in section(card_of(tmp_path / "1", round=1), "Data")


def test_it_says_whether_the_agent_thinks(tmp_path: Path) -> None:
    assert "by writing a thought and an action in each turn" in card_of(tmp_path / "thinks")
    assert "by writing an action in each turn" in card_of(tmp_path / "acts", agent={"thoughts": False})


def test_an_earlier_round_is_told_as_such(tmp_path: Path) -> None:
    card = card_of(tmp_path, round=1)
    assert "It is from round 1 of a run of 2." in section(card, "Limits")
    assert "| maze | 8 | 0 % [0, 32] | 25 % [7, 59] |" in section(card, "Results")


def test_a_round_without_evaluation_claims_nothing(tmp_path: Path) -> None:
    card = card_of(tmp_path, evaluated=False)
    assert section(card, "Results").strip() == "The adapter of round 2 was not evaluated."
    assert "%" not in card
    assert ModelCard(card).data.eval_results is None


@pytest.mark.parametrize(
    ("method", "left"),
    [
        ({}, "the update that the strategy mean asks of each site, 0."),
        ({"strategy": "ffa"}, "the update that the strategy ffa asks of each site, 0."),
        ({"strategy": "weighted_mean"}, "with each, examples as a number"),
    ],
)
def test_what_left_the_sites_follows_the_method(tmp_path: Path, method: dict[str, Any], left: str) -> None:
    assert left in section(card_of(tmp_path, method=method), "What left the sites")


def test_an_isolated_sites_card_tells_of_that_site(tmp_path: Path) -> None:
    card = card_of(tmp_path, client="west", method={"strategy": "isolated"})
    assert "at the site west" in card
    assert section(card, "What left the sites").strip().startswith("Its adapter, to the server")
    own, _, others = section(card, "Results").partition("other sites")
    assert "wordle" in own
    assert "maze" not in own
    assert "| maze | 8 | 12 % [2, 47] |" in others
    assert "It acts in text environments (wordle)" in card
    assert "| west | wordle | train | test | 5 | 8 | 3 | 3 |" in section(card, "Data")
    assert "east" not in section(card, "Data")


def test_a_sites_own_temperature_is_told_of_exploration(tmp_path: Path) -> None:
    clients = [
        {"name": "west", "environment": "maze", "demonstrations": 5},
        {"name": "east", "environment": "wordle", "demonstrations": 5, "temperature": 1.5},
    ]
    assert "temperature 1 (1.5 at east), 2048" in section(card_of(tmp_path, clients=clients), "Method")


def test_a_sites_own_steps_are_told_of_training(tmp_path: Path) -> None:
    clients = [
        {"name": "west", "environment": "maze", "demonstrations": 5},
        {"name": "east", "environment": "wordle", "demonstrations": 5, "steps": 12},
    ]
    told = section(card_of(tmp_path, clients=clients, training={"steps": 3}), "Method")
    assert "3 steps a round (12 at east)," in told


def test_several_samples_of_a_task_are_no_tasks(tmp_path: Path) -> None:
    evaluation = {"decoding": "sampled", "samples": 4}
    sampled, greedy = (card_of(tmp_path / name, evaluation=found) for name, found in (("4", evaluation), ("1", {})))
    assert {found.dataset_name for found in ModelCard(sampled).data.eval_results} == {
        "maze, 8 held-out episodes",
        "wordle, 8 held-out episodes",
    }
    assert "the intervals tell what other tasks would do" in section(greedy, "Limits")
    assert "the intervals tell what other tasks would do" not in section(sampled, "Limits")
    assert "for other tasks they are too narrow" in section(sampled, "Limits")


def test_the_configuration_is_there_to_run_again(tmp_path: Path) -> None:
    text = re.search(r"```yaml\n(.*?)```", section(card_of(tmp_path), "How it was made"), re.DOTALL)
    assert text is not None
    assert text[1] == (tmp_path / "server/config.yaml").read_text()


def test_the_code_of_the_card_names_the_base(tmp_path: Path) -> None:
    assert 'AutoTokenizer.from_pretrained("someone/model")' in card_of(tmp_path / "hub", model="someone/model")
    assert 'load_base(ModelConfig(name="tiny"))' in card_of(tmp_path / "tiny")


def test_a_card_links_the_paper_and_models_only(tmp_path: Path) -> None:
    card = model_card(origin(made_run(tmp_path / "run")), "adapter")
    links = re.findall(r"\]\((https?://[^)]*)\)", card)
    assert links
    assert all(link.startswith(("https://arxiv.org/", "https://huggingface.co/")) for link in links)
