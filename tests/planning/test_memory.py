from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fedse.config import RunConfig
from fedse.errors import AdapterError, ModelError
from fedse.learning import attention, loss
from fedse.learning.examples import Example
from fedse.learning.update import local_update
from fedse.models import lines
from fedse.models.attention_switch import attention_implementation
from fedse.models.tiny import tiny_model
from fedse.planning import MemoryPlan, architecture_of, fit, memory, plan_memory
from fedse.planning.architecture import Architecture, known_facts
from fedse.planning.memory import MemoryPhase
from fedse.rollout import schedule
from fedse.rollout.torch import cache, kernel
from fedse.rollout.torch.decoder import SlotDecoder
from fedse.rollout.torch.prepack import prepacked
from helpers.memory_measuring import alike, kept_for_backward, peak, record, tiny_lora

ALL = sorted(known_facts())
NOTES = ("source", "parameters", "non_embedding")
PUBLISHED = [name for name in ALL if "parameters" in known_facts()[name]]


def config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate({"clients": [{"name": "west", "environment": "maze"}]} | sections)


def item(phase: MemoryPhase, beginning: str) -> int:
    [found] = [item.bytes for item in phase.items if item.label.startswith(beginning)]
    return found


def plan_of(settings: RunConfig, name: str = "tiny", *, device: Any = "cuda", dtype: Any = "bfloat16") -> MemoryPlan:
    return plan_memory(settings, architecture_of(name), device=device, dtype=dtype)


@pytest.fixture(params=["kernel", "blocks"])
def attending(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a CPU computes attention in bfloat16: with small heads, as the tiny model has, and with large ones."""
    if request.param == "blocks":
        monkeypatch.setattr(attention, "_SMALL_HEAD", 0)
        monkeypatch.setattr(memory, "SMALL_HEAD", 0)
    return str(request.param)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_formula_gives_the_totals_that_the_model_cards_state(name: str) -> None:
    stated, shapes = known_facts()[name], architecture_of(name)

    def within_a_digit(total: int, figure: float) -> bool:  # some cards round, some cut off
        return abs(total / 1e9 - figure) < 10 ** -len(str(figure).partition(".")[2])

    assert within_a_digit(shapes.parameters, stated["parameters"])
    if "non_embedding" in stated:
        assert within_a_digit(shapes.parameters - shapes.embedding, stated["non_embedding"])


@pytest.mark.parametrize("name", ALL)
def test_the_formula_counts_the_parameters_that_transformers_makes(name: str) -> None:
    facts = {key: value for key, value in known_facts()[name].items() if key not in NOTES}
    family = facts.pop("model_type")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **facts))
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture_of(name).parameters


def test_the_facts_of_the_tiny_model_are_those_of_its_code() -> None:
    built = tiny_model().config.to_dict()
    facts = {key: value for key, value in known_facts()["tiny"].items() if key != "source"}
    assert facts == {key: built[key] for key in facts}


@pytest.mark.parametrize(("rank", "stated"), [(2, 19.1), (4, 38.1), (8, 76.3), (16, 152.5)])
def test_an_adapter_of_llama_2_has_the_size_that_the_paper_states(rank: int, stated: float) -> None:
    # arXiv 2512.08870, communication per upload; MiB in float32, rounded there from 76.25 and its like.
    plan = plan_of(config(lora={"rank": rank}), "meta-llama/Llama-2-7b-chat-hf")
    assert plan.adapter_bytes / 2**20 == pytest.approx(stated, abs=0.06)


def test_the_adapter_is_counted_as_it_is_made() -> None:
    for lora in ({"rank": 8}, {"rank": 3, "target_modules": ("q_proj", "down_proj")}):
        made = tiny_lora("float32", **lora).state()
        assert plan_of(config(lora=lora)).adapter_bytes == made.nbytes


def test_the_limits_are_those_of_the_code() -> None:
    assert memory.PASS_TOKENS == schedule.PASS_TOKENS
    assert memory.CACHE_BLOCK == kernel.BLOCK
    assert memory.TILE == lines.LINE
    assert memory.LOGITS_AT_ONCE == loss._LOGITS_AT_ONCE
    assert (memory.ATTENTION_BLOCK, memory.KEPT_KEYS) == (attention._BLOCK, attention._KEPT_KEYS)
    assert memory.SMALL_HEAD == attention._SMALL_HEAD


@pytest.mark.usefixtures("attending")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj"), ("q_proj", "gate_proj", "down_proj")])
def test_what_a_forward_pass_keeps_is_what_the_plan_says(device: Any, dtype: Any, targets: Any) -> None:
    lora = {"target_modules": targets}
    measured = [
        kept_for_backward(tiny_lora(dtype, **lora), [record(tokens)], on_gpu=device == "cuda")
        for tokens in (1024, 2048)
    ]
    planned = []
    for tokens in (1024, 2048):
        training = {"max_tokens": tokens, "batch_size": 1}
        settings = config(lora=lora, training=training, rollout={"max_context": 1024})
        planned.append(item(plan_of(settings, device=device, dtype=dtype).phases[1], "activations"))
    assert planned[0] == pytest.approx(measured[0], rel=0.02 if device == "cuda" else 0.005)
    assert planned[1] - planned[0] == pytest.approx(measured[1] - measured[0], rel=0.001)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("device", "beginning"), [("cpu", 896), ("cuda", 1024)])  # where each keeps most
@pytest.mark.parametrize("trajectories", [4, 8])
def test_the_plan_counts_what_trajectories_with_a_common_beginning_keep(
    device: Any, dtype: Any, beginning: int, trajectories: int, attending: str
) -> None:
    records = alike(beginning, 128, trajectories)
    measured = kept_for_backward(tiny_lora(dtype), records, on_gpu=device == "cuda")
    training = {"max_tokens": beginning + 128 * trajectories, "batch_size": trajectories}
    settings = config(training=training, rollout={"max_context": 1024})
    planned = item(plan_of(settings, device=device, dtype=dtype).phases[1], "activations")
    # The plan is for lengths that fill the fewest tiles; these fill all of theirs.
    tiles = device == "cpu" and (dtype == "float32" or attending == "kernel")
    assert planned == pytest.approx(measured, rel=0.05 if tiles else 0.02)


@pytest.mark.usefixtures("attending")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("beginning", "rest"), [(900, 124), (200, 300), (0, 400)])
def test_the_plan_is_an_upper_bound_whatever_the_common_beginning(device: Any, beginning: int, rest: int) -> None:
    measured = kept_for_backward(tiny_lora("bfloat16"), alike(beginning, rest, 4), on_gpu=device == "cuda")
    training = {"max_tokens": beginning + 4 * rest, "batch_size": 4}
    settings = config(training=training, rollout={"max_context": 1024})
    assert measured < 1.01 * item(plan_of(settings, device=device, dtype="bfloat16").phases[1], "activations")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_with_dropout_the_plan_is_an_upper_bound(dtype: Any) -> None:
    lora = {"dropout": 0.1}
    measured = kept_for_backward(tiny_lora(dtype, **lora), [record(1024)], on_gpu=True)
    settings = config(lora=lora, training={"max_tokens": 1024, "batch_size": 1}, rollout={"max_context": 1024})
    assert measured < item(plan_of(settings, dtype=dtype).phases[1], "activations") < 1.3 * measured


@pytest.mark.usefixtures("attending")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_local_update_peaks_where_the_plan_says(dtype: Any) -> None:
    settings = config(training={"steps": 2, "batch_size": 1, "max_tokens": 1024}, rollout={"max_context": 1024})
    lora = tiny_lora(dtype)
    measured = peak(lambda: local_update(lora, [Example(record(1024))], settings.training, seed=0))
    phase = plan_of(settings, device="cpu", dtype=dtype).phases[1]
    planned = phase.bytes - item(phase, "base weights") - item(phase, "adapter")
    assert 0.95 * measured < planned < 1.15 * measured


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rollout_peaks_where_the_plan_says(dtype: Any) -> None:
    settings = config(rollout={"slots": 12, "max_context": 1024})
    lora = tiny_lora(dtype)
    model = lora.base.model

    def read_a_prompt_into_every_slot() -> None:
        with lora.merged(), prepacked(model, 12), attention_implementation(model, cache.ATTENTION_NAME):
            decoder = SlotDecoder(model, 13, 1024)
            for slot in (0, 12):
                decoder.forward([(slot, list(range(1024 - 768)) + [7] * 768)])
            decoder.forward([(1, [7] * schedule.PASS_TOKENS)])

    measured = peak(read_a_prompt_into_every_slot)
    phase = plan_of(settings, device="cpu", dtype=dtype).phases[0]
    planned = phase.bytes - item(phase, "base weights") - item(phase, "adapter")
    assert 0.95 * measured < planned < 1.15 * measured


def test_a_trajectory_longer_than_the_limit_has_a_pass_of_its_own() -> None:
    settings = config(training={"max_tokens": 64}, rollout={"max_context": 640})
    assert "activations of 640 tokens" in [item.label for item in plan_of(settings).phases[1].items]


def test_an_evaluation_without_rounds_plans_no_training() -> None:
    once = config()
    assert [phase.name for phase in plan_of(once).phases] == ["rollout", "training"]
    assert [phase.name for phase in plan_of(once.model_copy(update={"rounds": 0})).phases] == ["rollout"]


def test_workers_share_the_device() -> None:
    one, three = plan_of(config()), plan_of(config(workers=3))
    assert three.peak == 3 * one.peak
    assert three.host_peak == 3 * one.host_peak
    assert fit(three, config(workers=3), one.peak * 2 / 1e9).advice == (
        "workers=2: each process has a model of its own",
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("gigabytes", [24, 48, 80])
@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-1.7B", "meta-llama/Llama-2-7b-chat-hf", "smollm2-135m"]
)
def test_who_follows_the_advice_fits(name: str, gigabytes: float, device: Any) -> None:
    sections: dict[str, dict[str, Any]] = {"rollout": {"max_context": 4096}, "training": {"max_tokens": 65536}}
    found = fit(plan_of(config(**sections), name, device=device), config(**sections), gigabytes)
    for advice in found.advice:
        changes = advice.partition(":")[0].split(" with ")
        for change in changes:
            key, equals, value = change.partition("=")
            if not equals:  # nothing that a setting could mend by a number
                assert advice.startswith(("a smaller base model", "rollout.max_context below 4096"))
                return
            section, _, field = key.partition(".")
            sections[section][field] = int(value)
    assert fit(plan_of(config(**sections), name, device=device), config(**sections), gigabytes).fits


def test_what_never_fits_is_said_plainly() -> None:
    plan = plan_of(config(), "Qwen/Qwen3-8B", dtype="float32")
    assert fit(plan, config(), 24).advice == ("model.dtype=bfloat16: half the weights",)
    assert fit(plan_of(config(), "Qwen/Qwen3-8B"), config(), 8).advice == ("a smaller base model",)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(AdapterError, match="names lm_head") as caught:
        plan_of(config(lora={"target_modules": ("q_proj", "lm_head")}))
    assert "q_proj, k_proj" in caught.value.mend


def test_a_folder_is_read_from_its_configuration(tmp_path: Any) -> None:
    tiny_model().config.save_pretrained(tmp_path)
    found, known = architecture_of(str(tmp_path)), architecture_of("tiny")
    assert found == Architecture(**{**vars(known), "name": str(tmp_path), "source": str(tmp_path / "config.json")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "gpt2"}', "no memory plan for .*'gpt2'"),
        ('{"model_type": "llama"}', "no configuration of a model.*num_attention_heads"),
        ("{", "cannot read the configuration"),
    ],
)
def test_a_configuration_without_shapes_is_refused(tmp_path: Any, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        architecture_of(str(tmp_path))


def test_where_an_endpoint_plays_the_model_only_waits() -> None:
    settings = config(rollout={"endpoint": {"url": "http://127.0.0.1:8000"}})
    here, there = plan_of(config(), "smollm2-135m"), plan_of(settings, "smollm2-135m")
    waiting, training = there.phases
    assert [item.label for item in waiting.items] == ["base weights", "adapter"]
    assert training == here.phases[1]
