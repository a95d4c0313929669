from __future__ import annotations

import math
import multiprocessing
from dataclasses import replace
from itertools import islice

import pytest
import torch

from fedse.config import TrainingConfig
from fedse.errors import DivergenceError, TrainingError
from fedse.learning.examples import Example
from fedse.learning.packing import batches
from fedse.learning.update import StepReport, local_update, planned_steps
from fedse.models.lora import LoraModel
from fedse.types import TokenRecord
from helpers.learning_reference import examples, records, tiny_lora

CONFIG = TrainingConfig(steps=4, batch_size=2, learning_rate=1e-2)


def experience(count: int = 6) -> list[Example]:
    return examples(records([30 + 3 * index for index in range(count)], shared=8))


def trained(lora: LoraModel, *, seed: int = 0, config: TrainingConfig = CONFIG) -> str:
    local_update(lora, experience(), config, seed=seed)
    return lora.state().digest


def test_training_lowers_the_loss_and_changes_the_adapter_only() -> None:
    lora = tiny_lora()
    before = lora.state()
    base = {path: lora.linear(path).weight.clone() for path in lora.layers}
    stats = local_update(lora, experience(), replace_config(steps=40), seed=0)
    assert stats.last_loss < 0.97 * stats.first_loss
    assert all((lora.state().tensors[name] != before.tensors[name]).any() for name in before.tensors)
    assert all(torch.equal(lora.linear(path).weight, weight) for path, weight in base.items())
    assert all(lora.base.model.get_submodule(path) is layer for path, layer in lora.layers.items())


def replace_config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**(CONFIG.model_dump() | changes))


def test_stats_count_what_was_trained() -> None:
    reports: list[StepReport] = []
    made = experience(3)
    stats = local_update(
        tiny_lora(), made, replace_config(steps=None, epochs=2, batch_size=3), seed=0, on_step=reports.append
    )
    lengths = sum(len(one.tokens.ids) for one in made)
    assert (stats.steps, stats.examples, stats.tokens) == (2, 3, 2 * lengths)
    assert stats.loss_tokens == 2 * 3 * 7
    assert stats.computed_tokens == 2 * (lengths - 3 - 2 * 8)  # the last tokens, and the shared beginning twice
    assert [report.step for report in reports] == [1, 2]
    assert [report.learning_rate for report in reports] == pytest.approx([1e-2, 5e-3])
    assert (stats.first_loss, stats.last_loss) == (reports[0].loss, reports[1].loss)
    assert reports[-1].tokens == stats.tokens


def test_the_first_loss_is_the_uniform_guess_of_a_random_model() -> None:
    lora = tiny_lora()
    lora.load(lora.initial_state(0))
    stats = local_update(lora, experience(), replace_config(steps=1), seed=0)
    assert stats.first_loss == pytest.approx(math.log(259), rel=0.1)


def test_the_b_factors_can_learn_faster_than_the_a_factors() -> None:
    """Adam's first step moves every weight by its learning rate, whatever the gradient's size."""
    moved: dict[tuple[float, str], float] = {}
    for ratio in (1.0, 4.0):
        lora = tiny_lora()
        before = lora.state().tensors
        local_update(lora, experience(), replace_config(steps=1, b_ratio=ratio, learning_rate=1e-3), seed=0)
        for kind in ("lora_A", "lora_B"):
            steps = [abs(after - before[name]).max() for name, after in lora.state().tensors.items() if kind in name]
            moved[ratio, kind] = float(max(steps))
    assert moved[1.0, "lora_B"] == pytest.approx(1e-3, rel=1e-2)
    assert moved[4.0, "lora_B"] == pytest.approx(4e-3, rel=1e-2)
    assert moved[4.0, "lora_A"] == pytest.approx(moved[1.0, "lora_A"], rel=1e-5)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"steps": 7}, 7), ({"epochs": 1}, 3), ({"epochs": 2}, 6), ({"epochs": 0.5}, 2), ({"epochs": 0.01}, 1)],
)
def test_the_budget_counts_steps_or_passes(budget: dict[str, float], steps: int) -> None:
    assert planned_steps([1] * 5, 2, TrainingConfig(**budget), seed=0) == steps  # type: ignore[arg-type]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 6), (1.5, 5)])
def test_epochs_are_passes_also_where_trajectories_overfill_a_batch(epochs: float, steps: int) -> None:
    assert planned_steps([100] * 3, 60, TrainingConfig(epochs=epochs, batch_tokens=60), seed=0) == steps


@pytest.mark.parametrize("seed", range(5))
def test_epochs_are_passes_also_where_trajectories_differ(seed: int) -> None:
    costs = [5, 1, 9, 2, 2, 3, 8]
    steps = planned_steps(costs, 8, TrainingConfig(epochs=2, batch_tokens=8), seed=seed)
    seen = [index for batch in islice(batches(costs, 8, seed), steps) for index in batch]
    assert sorted(seen) == sorted([*range(len(costs))] * 2)


def test_the_same_update_twice_is_the_same_bit_for_bit() -> None:
    lora = tiny_lora()
    start = lora.state()
    first = trained(lora)
    lora.load(start)  # also: no optimizer state is left over from the first update
    assert trained(lora) == first
    lora.load(start)
    assert trained(lora, seed=1) != first


@pytest.mark.usefixtures("warm_workers")
def test_another_process_computes_the_same_bits() -> None:
    """One that is not forked from this one, so that hashes may differ."""
    with multiprocessing.get_context().Pool(1, torch.set_num_threads, (torch.get_num_threads(),)) as process:
        found = process.apply(_trained_here)
    assert found == trained(tiny_lora())


def _trained_here() -> str:
    return trained(tiny_lora())


def test_two_updates_are_not_one_longer_update() -> None:
    """Optimizer state and schedule start anew with each call, as with a client that receives a new global adapter."""
    lora = tiny_lora()
    start = lora.state()
    rates: list[float] = []
    for _ in range(2):
        local_update(lora, experience(), CONFIG, seed=0, on_step=lambda report: rates.append(report.learning_rate))
    twice = lora.state().digest
    assert rates[:4] == rates[4:]
    lora.load(start)
    assert trained(lora, config=replace_config(steps=8)) != twice


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_global_generator_neither_decides_nor_moves(dropout: float) -> None:
    digests = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.random.get_rng_state()
        digests.append(trained(tiny_lora(dropout=dropout)))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert digests[0] == digests[1]


def test_dropout_acts_in_training_and_nowhere_else() -> None:
    lora = tiny_lora(dropout=0.3)
    assert trained(lora) != trained(tiny_lora())
    assert not any(module.training for module in lora.base.model.modules())


def test_gradients_are_clipped() -> None:
    norms: list[float] = []

    def weights_after(max_grad_norm: float, weight_decay: float = 0.0) -> str:
        return trained(tiny_lora(), config=replace_config(max_grad_norm=max_grad_norm, weight_decay=weight_decay))

    local_update(tiny_lora(), experience(), CONFIG, seed=0, on_step=lambda report: norms.append(report.gradient_norm))
    assert weights_after(1e-3) != weights_after(1e3) == weights_after(10 * max(norms))
    assert weights_after(1e3) != weights_after(1e3, weight_decay=0.1)


def test_nothing_to_learn_from_is_an_error() -> None:
    silent = Example(TokenRecord((1, 2, 3), (), "t"))
    for empty in ([], [silent]):
        with pytest.raises(TrainingError, match="nothing to learn from"):
            local_update(tiny_lora(), empty, CONFIG, seed=0)
    stats = local_update(tiny_lora(), [silent, *experience(2)], CONFIG, seed=0)
    assert stats.examples == 2


def test_training_a_merged_model_is_an_error() -> None:
    lora = tiny_lora()
    with lora.merged(), pytest.raises(TrainingError, match="merged"):
        local_update(lora, experience(), CONFIG, seed=0)


def test_a_loss_that_is_not_finite_stops_before_the_adapter_is_spoilt() -> None:
    lora = tiny_lora()
    start = lora.state().digest
    lora.base.model.get_input_embeddings().weight.data[50] = float("nan")
    bad = [Example(replace(record, ids=(50, *record.ids[1:]))) for record in records([30, 40])]
    with pytest.raises(TrainingError, match="step 1 of 4: the loss is nan"):
        local_update(lora, bad, CONFIG, seed=0)
    assert lora.state().digest == start
    assert all(lora.base.model.get_submodule(path) is layer for path, layer in lora.layers.items())


def test_the_longest_trajectory_is_trained_whole() -> None:
    lora = tiny_lora()
    stats = local_update(lora, examples(records([500])), replace_config(steps=1, max_tokens=64), seed=0)
    assert stats.computed_tokens == 499


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e300}, {"learning_rate": 1e38}, {"b_ratio": 1e300}, {"b_ratio": 1e300, "steps": 1}]
)
def test_a_step_beyond_all_numbers_is_divergence_and_leaves_the_adapter_as_it_was(changes: dict[str, float]) -> None:
    lora = tiny_lora()
    before = lora.state().digest
    with pytest.raises(DivergenceError, match=r"step 1 of .: the learning rate .* is more than float32 has"):
        local_update(lora, experience(), replace_config(**changes), seed=0)
    assert lora.state().digest == before
