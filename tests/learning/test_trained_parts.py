"""An update of a part of the adapter: the rest keeps its bits, and takes part in the forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedse.adapters.moments import directions
from fedse.adapters.parts import Trained, side_by_side
from fedse.adapters.state import AdapterState
from fedse.config import TrainingConfig
from fedse.errors import TrainingError
from fedse.learning.examples import Example
from fedse.learning.moments import input_moments
from fedse.learning.update import local_update
from helpers.learning_reference import examples, records, tiny_lora

CONFIG = TrainingConfig(steps=4, batch_size=2, learning_rate=1e-2, weight_decay=0.1)


def experience(count: int = 4) -> list[Example]:
    return examples(records([30 + 3 * index for index in range(count)], shared=8))


def updated(trained: Trained | None, *, config: TrainingConfig = CONFIG, proximal: float = 0.0) -> AdapterState:
    lora = tiny_lora()
    local_update(lora, experience(), config, seed=0, trained=trained, proximal=proximal)
    return lora.state()


@pytest.mark.parametrize("trained", [Trained(("A",)), Trained(("B",)), Trained(ranks=(1,)), Trained(("B",), (0,))])
def test_what_is_frozen_keeps_its_bits_also_with_weight_decay(trained: Trained) -> None:
    before, after = tiny_lora().state(), updated(trained)
    assert trained.into(after, trained.of(before)).digest == before.digest
    assert all((array != trained.of(before).tensors[name]).any() for name, array in trained.of(after).tensors.items())


def test_everything_trained_is_the_same_as_no_part_at_all() -> None:
    ranks = tuple(range(tiny_lora().meta.rank))
    assert updated(Trained(ranks=ranks)).digest == updated(None).digest


def test_a_block_beside_one_without_effect_is_trained_as_if_it_were_alone() -> None:
    """Frozen components count for neither the gradient's norm nor AdamW."""
    lora = tiny_lora()
    alone = lora.state()
    idle = AdapterState(
        {n: a * (n.endswith("lora_A.weight")) for n, a in lora.initial_state(5).tensors.items()}, alone.meta
    )
    local_update(lora, experience(), CONFIG, seed=0)
    expected = lora.state()
    lora.load(side_by_side([alone, idle]))
    own = Trained(ranks=tuple(range(alone.meta.rank)))
    local_update(lora, experience(), CONFIG, seed=0, trained=own)
    for name, array in own.of(lora.state()).tensors.items():
        np.testing.assert_allclose(array, expected.tensors[name], rtol=1e-3, atol=1e-6)


def test_the_proximal_term_holds_the_update_back() -> None:
    """FedProx: μ = 0 is the plain update, and μ·lr = 1 takes every step back."""
    config = CONFIG.model_copy(update={"weight_decay": 0.0, "schedule": "constant"})
    start = tiny_lora().state()

    def distance(proximal: float) -> float:
        after = updated(None, config=config, proximal=proximal)
        return sum(float(np.square(array - start.tensors[name]).sum()) for name, array in after.tensors.items())

    assert updated(None, config=config, proximal=0.0).digest == updated(None, config=config).digest
    assert 0 < distance(20.0) < 0.9 * distance(0.0)
    assert distance(1 / config.learning_rate) == 0


def test_moments_are_those_of_the_inputs_at_tokens_with_loss() -> None:
    lora, made = tiny_lora(), experience(3)
    path = sorted(lora.layers)[0]
    rows: list[torch.Tensor] = []
    for example in made:
        ids = torch.tensor([example.tokens.ids])
        positions = torch.tensor([loss.at for loss in example.losses()])
        handle = lora.layers[path].register_forward_pre_hook(
            lambda _, inputs, positions=positions: rows.append(inputs[0][0][positions].float())
        )
        with torch.no_grad():
            lora.base.model(ids)
        handle.remove()
    inputs = torch.cat(rows).numpy()
    name = f"base_model.model.{path}"
    seen = inputs @ directions(name, inputs.shape[1], 6).T
    np.testing.assert_allclose(input_moments(lora, made, 6, 512)[name], seen.T @ seen / len(seen), rtol=1e-3, atol=1e-6)
    factor_a = lora.state().tensors[f"{name}.lora_A.weight"]
    gram = factor_a @ (inputs.T @ inputs / len(inputs)) @ factor_a.T
    np.testing.assert_allclose(input_moments(lora, made, "adapter", 512)[name], gram, rtol=1e-3, atol=1e-6)


def test_without_loss_there_are_no_moments() -> None:
    with pytest.raises(TrainingError, match="no example carries loss"):
        input_moments(tiny_lora(), [], 4, 512)
