from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, MistralConfig, PreTrainedConfig

from fedse.agent import Renderer
from fedse.agent.parsing import NO_ACTION
from fedse.config import LoraConfig, RolloutConfig
from fedse.environments.base import StepResult
from fedse.errors import ConfigError, ModelError
from fedse.models.attention_switch import attention_implementation
from fedse.models.base import BaseModel, cpu_flags
from fedse.models.lora import LoraModel
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.rollout.schedule import Draw
from fedse.rollout.scripted import ExpertPolicy, demonstrate, play
from fedse.rollout.torch import prepack
from fedse.rollout.torch.cache import ATTENTION_NAME
from fedse.rollout.torch.decoder import SlotDecoder
from fedse.rollout.torch.masked import MaskedCache
from fedse.rollout.torch.player import TorchPlayer
from fedse.rollout.torch.prepack import Int8Linear, PrepackedLinear, prepacked
from fedse.rollout.torch.sampling import draw
from fedse.types import Source, StopReason, Task
from helpers.counting_environment import Counting


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06)])
def test_mixed_passes_over_slots_give_the_logits_of_plain_forward_passes(
    lora: LoraModel, dtype: torch.dtype, tolerance: float, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single tokens, long pieces, copies and growing capacity in any mix ≡ one forward pass over the whole history."""
    if not kernel:  # as on a Python that numba has no wheel for
        monkeypatch.setitem(sys.modules, "fedse.rollout.torch.kernel", None)
    generator = np.random.default_rng(3)
    with lora.merged():
        model = copy.deepcopy(lora.base.model).to(dtype)  # type: ignore[arg-type]
    exact = copy.deepcopy(model).float()
    with attention_implementation(model, ATTENTION_NAME):
        decoder = SlotDecoder(model, 4, 512)
        assert isinstance(decoder.cache, MaskedCache) is not kernel
        histories: list[list[int]] = [[] for _ in range(4)]
        for _ in range(40):
            slots = [slot for slot in range(4) if generator.random() < 0.7] or [0]
            sizes = [
                1 if generator.random() < 0.6 and histories[slot] else int(generator.integers(1, 9)) for slot in slots
            ]
            pieces = [
                (slot, generator.integers(3, 250, size).tolist()) for slot, size in zip(slots, sizes, strict=True)
            ]
            logits = decoder.forward(pieces)
            for (slot, new), row in zip(pieces, logits, strict=True):
                histories[slot] += new
                with torch.no_grad():
                    expected = exact(torch.tensor([histories[slot]])).logits[0, -1]
                torch.testing.assert_close(row.float(), expected, rtol=tolerance, atol=tolerance)
        assert max(len(history) for history in histories) > 64, "the cache was expected to grow"
        decoder.copy(1, 2, 5)
        row = decoder.forward([(2, [7, 8])])[0]
        with torch.no_grad():
            expected = exact(torch.tensor([[*histories[1][:5], 7, 8]])).logits[0, -1]
        torch.testing.assert_close(row.float(), expected, rtol=tolerance, atol=tolerance)


SMALL = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def small(config: PreTrainedConfig) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def test_a_window_shorter_than_a_slot_may_become_is_refused() -> None:
    model = small(MistralConfig(**SMALL, sliding_window=32))
    with attention_implementation(model, ATTENTION_NAME):
        SlotDecoder(model, 2, 32).forward([(0, [5, 6, 7])])
        with pytest.raises(ModelError, match="sliding window of 32 tokens, shorter than a trajectory of 33"):
            SlotDecoder(model, 2, 33).forward([(0, [5, 6, 7])])


def test_capped_attention_scores_are_refused() -> None:
    model = small(Gemma2Config(**SMALL, head_dim=8))
    with (
        attention_implementation(model, ATTENTION_NAME),
        pytest.raises(ModelError, match="softcap; a rollout computes"),
    ):
        SlotDecoder(model, 2, 32).forward([(0, [5])])


def test_a_model_that_changes_its_logits_does_not_play(renderer: Renderer) -> None:
    config = Gemma2Config(**SMALL, final_logit_softcapping=0.001)
    base = BaseModel(model=small(config), tokenizer=None, fingerprint="f", name="n")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="changes its logits"):
        TorchPlayer(LoraModel(base, LoraConfig(rank=2)), renderer, RolloutConfig(max_context=512))


def test_where_the_processor_cannot_pack_bfloat16_the_layers_stay_plain(
    lora: LoraModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lora.merged():
        model = copy.deepcopy(lora.base.model).to(torch.bfloat16)  # type: ignore[arg-type]
    tokens = torch.tensor([[5, 9, 77, 30]])
    with torch.no_grad():
        plain = model(tokens).logits
        monkeypatch.setattr(prepack, "_packs_bfloat16", lambda: False)
        with prepacked(model, 4):
            assert not any(isinstance(module, PrepackedLinear) for module in model.modules())
            assert torch.equal(model(tokens).logits, plain)
        monkeypatch.undo()
        with prepacked(model, 4):  # packed or not, by the processor
            torch.testing.assert_close(model(tokens).logits, plain, rtol=0.02, atol=0.02)


def test_packed_weights_give_the_same_logits_and_leave_no_trace(lora: LoraModel) -> None:
    model = lora.base.model
    tokens = torch.tensor([[5, 9, 77, 30]])
    with torch.no_grad(), lora.merged():
        plain = model(tokens).logits
        with prepacked(model, 4):
            assert any(isinstance(module, PrepackedLinear) for module in model.modules())
            packed = model(tokens).logits
        assert not any(isinstance(module, PrepackedLinear) for module in model.modules())
    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-5)


@pytest.fixture
def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 40)
    layer.weight.data[:, 3] *= 30  # one input's weights stand out, as they do in models
    return layer


def rounded(numbers: torch.Tensor, most: int) -> torch.Tensor:
    largest = numbers.double().abs().amax(dim=1, keepdim=True)
    return (numbers / largest * most).round() * largest / most


@pytest.mark.parametrize(("flags", "most"), [({"avx_vnni"}, 127), (set(), 63)])
def test_int8_weights_are_off_by_their_rounding_alone(
    linear: torch.nn.Linear, flags: set[str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if most == 127 and not cpu_flags() & {"avx512_vnni", "avx_vnni"}:
        pytest.skip("this processor has no VNNI, so there seven bits are used")
    monkeypatch.setattr(prepack, "cpu_flags", lambda: frozenset(flags))
    states = torch.randn(9, 96)
    with torch.inference_mode():
        result, exact = Int8Linear(linear, 9)(states), linear(states)
        expected = rounded(states, most) @ rounded(linear.weight, 127).T + linear.bias
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    assert float((result - exact).norm() / exact.norm()) < 0.05


def test_with_int8_weights_rows_do_not_depend_on_each_other(linear: torch.nn.Linear) -> None:
    states = torch.randn(64, 96) * torch.logspace(-3, 3, 64).unsqueeze(1)
    with torch.inference_mode():
        layer = Int8Linear(linear, 16)
        together = layer(states)
        alone = torch.cat([layer(states[row : row + 1]) for row in range(64)])
        assert torch.equal(together, alone)
        assert torch.equal(layer(torch.zeros(1, 96)), linear.bias.unsqueeze(0))


def test_a_player_with_int8_weights_says_nearly_the_same(lora: LoraModel) -> None:
    model = lora.base.model
    tokens = torch.tensor([[5, 9, 77, 30]])
    with torch.no_grad(), lora.merged():
        plain = model(tokens).logits
        with prepacked(model, 4, "int8"):
            assert any(isinstance(module, Int8Linear) for module in model.modules())
            assert not isinstance(model.get_output_embeddings(), Int8Linear)
            rounded = model(tokens).logits
        assert not any(isinstance(module, Int8Linear) for module in model.modules())
    assert 0 < float((rounded - plain).norm() / plain.norm()) < 0.1


def test_int8_weights_are_refused_where_they_cannot_be_had(
    lora: LoraModel, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"with a torch that has oneDNN"):
        TorchPlayer(lora, renderer, RolloutConfig(weights="int8", max_context=512))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="on a CPU only"):
        prepack.check_int8(torch.device("cuda"))


def drawn(
    logits: torch.Tensor, uniforms: Iterable[float | None], temperature: float = 1.0, *, min_p: float = 0.0
) -> list[int]:
    draws = [Draw(index, uniform, temperature) for index, uniform in enumerate(uniforms)]
    return [token for token, _ in draw(logits, draws, min_p)]


def test_draws_follow_the_distribution_at_the_temperature() -> None:
    logits = torch.log(torch.tensor([0.1, 0.2, 0.7]))
    uniforms = (np.arange(3000) + 0.5) / 3000
    for temperature in (1.0, 2.0):
        expected = torch.softmax(logits / temperature, dim=-1).numpy()
        tokens = drawn(logits.repeat(3000, 1), uniforms, temperature)
        np.testing.assert_allclose(np.bincount(tokens, minlength=3) / 3000, expected, atol=1e-3)


def test_min_p_draws_only_what_is_likely_enough_in_the_same_proportions() -> None:
    logits = torch.log(torch.tensor([0.05, 0.3, 0.05, 0.6]))
    uniforms = (np.arange(3000) + 0.5) / 3000
    tokens = drawn(logits.repeat(3000, 1), uniforms, 1.0, min_p=0.4)
    np.testing.assert_allclose(np.bincount(tokens, minlength=4) / 3000, [0, 1 / 3, 0, 2 / 3], atol=1e-3)
    # The bound is a share of the most likely token's probability, after the temperature: 0.05 / 0.6 is below it, but
    # at temperature 4 it is (0.05 / 0.6) ** 0.25 = 0.54.
    flatter = drawn(logits.repeat(3000, 1), uniforms, 4.0, min_p=0.4)
    np.testing.assert_allclose(
        np.bincount(flatter, minlength=4) / 3000, torch.softmax(logits / 4, dim=-1).numpy(), atol=1e-3
    )
    assert drawn(logits.repeat(2, 1), np.array([0.0, 1.0 - 2**-53]), 1.0, min_p=0.4) == [1, 3]


def test_extreme_draws_stay_within_tokens_that_can_occur() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, 0.0, float("-inf")]]).repeat(2, 1)
    assert drawn(logits, np.array([0.0, 1.0 - 2**-53]), 1.0) == [1, 2]


def test_greedy_takes_the_most_likely() -> None:
    assert drawn(torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]]), [None, None]) == [1, 0]


def test_what_is_drawn_comes_with_its_log_probability_at_its_own_temperature() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]]).repeat(3, 1)
    draws = [Draw(0, None, 1.0), Draw(1, 0.0, 2.0), Draw(2, 0.0, 0.5)]
    found = draw(logits, draws, min_p=0.9)
    assert [token for token, _ in found] == [1, 1, 1]
    for (_, logprob), one in zip(found, draws, strict=True):
        assert logprob == pytest.approx(float(torch.log_softmax(logits[0] / one.temperature, dim=-1)[1]), abs=1e-6)


def test_a_scripted_policy_plays_an_episode() -> None:
    class Fixed:
        def act(self, observation: str) -> str:
            return f"Thought: {observation}\nAction: go"

    request = EpisodeRequest(Task("counting", "2/a"), 5)
    trajectory = play(Counting(), request, lambda _: Fixed(), instruction="Count.", source=Source.HUMAN)
    assert (trajectory.success, trajectory.stop, trajectory.actions) == (True, StopReason.DONE, ("go", "go"))
    assert trajectory.turns[1].response == "Thought: Turn 1 of 2/a.\nAction: go"
    assert trajectory.final_observation == "Turn 2 of 2/a."


def test_demonstrations_keep_successes_only_and_reuse_tasks_in_other_words(renderer: Renderer) -> None:
    tasks = [Task("counting", name) for name in ("1/a", "9/too-long", "boom/1", "2/b")]
    found = demonstrate(Counting(), tasks, 5, instruction="Count.", seed=1, renderer=renderer)
    assert [one.task.id for one in found] == ["1/a", "2/b", "1/a", "2/b", "1/a"]
    assert all(one.success and one.source is Source.EXPERT and one.tokens for one in found)
    assert len({one.seed for one in found}) == 5


def test_demonstrations_end_when_the_expert_solves_nothing() -> None:
    assert demonstrate(Counting(), [Task("counting", "9/x")], 3, instruction="Count.", seed=1) == []


def test_demonstrations_longer_than_the_context_are_left_out(renderer: Renderer) -> None:
    tasks = [Task("counting", f"{turns}/x") for turns in (1, 3, 2)]
    short, long, middle = demonstrate(Counting(), tasks, 3, instruction="Count.", seed=1, renderer=renderer)
    lengths = [len(episode.tokens.ids) if episode.tokens else 0 for episode in (short, middle, long)]
    assert lengths == sorted(lengths)
    found = demonstrate(Counting(), tasks, 2, instruction="Count.", seed=1, renderer=renderer, longest=lengths[1])
    assert [episode.task for episode in found] == [short.task, middle.task]
    assert demonstrate(Counting(), tasks, 2, instruction="Count.", seed=1, renderer=renderer, longest=9) == []


def test_a_parse_error_is_answered_in_the_environments_place_and_costs_a_turn() -> None:
    class NoAction:
        def act(self, observation: str) -> str:
            return "Thought: I wait."

    request = EpisodeRequest(Task("counting", "1/a"), 0)
    trajectory = play(Counting(), request, lambda _: NoAction(), instruction="Count.", source=Source.HUMAN)
    assert trajectory.stop is StopReason.TURN_LIMIT
    assert trajectory.turns[1].observation == NO_ACTION


def test_an_agent_that_repeats_itself_is_stopped_when_that_is_configured() -> None:
    def played(*replies: str, repeats: int | None) -> Episode:
        episode = Episode(
            Counting(), EpisodeRequest(Task("counting", "9/a"), 0), instruction="Count.", turns=6, repeats=repeats
        )
        episode.start()
        for reply in replies:
            episode.observation = "the same"
            episode.reply(f"Action: {reply}")
        return episode

    assert played("x", "y", "x", "y", repeats=3).stop is None
    stuck = played("x", "y", "x", "y", "x", repeats=3)
    assert stuck.stop is StopReason.REPETITION
    assert stuck.trajectory(source=Source.POLICY).success is False
    assert played("x", "x", "x", "x", "x", repeats=None).stop is None


@pytest.mark.parametrize("moment", ["making", "acting"])
def test_a_fault_of_the_expert_is_a_fault_and_no_failed_episode(moment: str) -> None:
    class Helpless(Counting):
        def expert(self, seed: int) -> Helpless:
            if moment == "making":
                raise KeyError("no plan")
            return self

        def act(self, observation: str) -> tuple[str, str]:
            raise KeyError("no plan")

    request = EpisodeRequest(Task("counting", "2/a"), 0)
    trajectory = play(
        Helpless(), request, lambda opened: ExpertPolicy(opened, 0), instruction="Count.", source=Source.EXPERT
    )
    assert (trajectory.stop, trajectory.success) == (StopReason.ERROR, None)
    assert "the expert" in trajectory.error
    assert "no plan" in trajectory.error


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_a_fault_and_no_failed_episode(reward: float) -> None:
    class Vague(Counting):
        def step(self, action: str) -> StepResult:
            return StepResult("Hm.", reward, True)

    episode = Episode(Vague(), EpisodeRequest(Task("counting", "2/a"), 0), instruction="Count.", turns=6)
    episode.start()
    episode.reply("Action: next")
    trajectory = episode.trajectory(source=Source.POLICY)
    assert (trajectory.stop, trajectory.success, trajectory.turns) == (StopReason.ERROR, None, ())
    assert f"in turn 1 of task '2/a': ValueError: the reward is {reward}" in trajectory.error
