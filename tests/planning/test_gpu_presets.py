from __future__ import annotations

import pytest

from fedse.config import RunConfig
from fedse.planning import check_run, fit, plan_of
from fedse.settings import load_config, preset_names
from fedse.suites import load_suite

PRESETS = [name for name in preset_names() if name.startswith("paper")]

#: Site → training tasks and demonstrations, held-out tasks: AgentTraj and the test sets of arXiv 2512.08870.
PAPER = {"babyai": (810, 90), "webshop": (3930, 200), "textcraft": (374, 100), "maze": (215, 25), "wordle": (955, 25)}


def preset(name: str) -> RunConfig:
    return load_config(name, None, [])


def test_every_model_of_the_paper_has_a_preset() -> None:
    models = {preset(name).model.name for name in PRESETS}
    assert models == {
        "Qwen/Qwen2.5-7B-Instruct",
        "Qwen/Qwen2.5-3B-Instruct",
        "Qwen/Qwen3-1.7B",
        "Qwen/Qwen3-8B",
        "meta-llama/Llama-2-7b-chat-hf",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_the_settings_are_the_papers(name: str) -> None:
    config = preset(name)
    assert (config.lora.rank, config.lora.alpha, config.lora.target_modules) == (8, 16, "all-linear")
    training = config.training
    assert (training.learning_rate, training.epochs, training.schedule, training.warmup) == (5e-5, 2, "cosine", 0)
    assert (config.rounds, config.rollout.temperature, config.rollout.max_context) == (20, 1.0, 4096)
    assert (config.agent.prompt, config.model.dtype) == ("full", "bfloat16")
    method = config.method
    assert (method.explore, method.filter, method.history, method.strategy) == (True, "success", True, "mean")
    assert config.evaluation.tasks is None


def test_the_sites_have_the_papers_tasks() -> None:
    sites = {site.name: (site.train_tasks, site.demonstrations, site.test_tasks) for site in check_run(preset("paper"))}
    assert sites == {name: (train, train, test) for name, (train, test) in PAPER.items()}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_differ_from_the_common_one_in_model_and_batch_sizes_only(name: str) -> None:
    def rest(config: RunConfig) -> RunConfig:
        model = config.model.model_copy(update={"name": ""})
        rollout = config.rollout.model_copy(update={"slots": 1})
        training = config.training.model_copy(update={"max_tokens": 64})
        return config.model_copy(update={"name": "", "model": model, "rollout": rollout, "training": training})

    assert rest(preset(name)) == rest(preset("paper"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_the_papers_gpus(name: str) -> None:
    config = preset(name)
    plan = plan_of(config)
    assert (plan.device, plan.dtype) == ("cuda", "bfloat16")
    assert config.rollout.max_context <= plan.architecture.window
    assert fit(plan, config, 48).fits  # RTX A6000
    assert fit(plan, config, 24).fits == (name == "paper-qwen3-1.7b")


@pytest.mark.parametrize("suite", ["paper", "paper-ablations"])
def test_the_papers_suites_have_the_settings_of_its_presets(suite: str) -> None:
    cells = [cell for cell in load_suite(suite).cells() if cell.seed == 0]
    for cell in cells:
        if cell.method == "fed-se":
            own = {"name": f"paper-{cell.model}"}
            assert cell.config.model_copy(update=own) == preset(f"paper-{cell.model}")
        assert fit(plan_of(cell.config), cell.config, 48).fits, cell
    models = {cell.model for cell in cells}
    assert {f"paper-{model}" for model in models} == (
        {*PRESETS} - {"paper"} if suite == "paper" else {"paper-llama2-7b"}
    )


def test_the_papers_table_and_ablations_are_whole() -> None:
    table, ablations = load_suite("paper"), load_suite("paper-ablations")
    assert [method.name for method in table.methods] == ["pre-trained", "local", "centralized", "fedit", "fed-se"]
    changed = {"no-filter", "no-history", "weighted-mean", "rank-2", "rank-4", "rank-8", "rank-16"}
    assert {method.name for method in ablations.ablations} == changed
    [shared] = {cell.method for cell in ablations.cells() if cell.is_shared}
    assert shared == "rank-8"  # is the method itself
