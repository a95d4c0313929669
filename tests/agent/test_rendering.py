from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from fedse.agent import renderer_for
from fedse.agent.renderers.gemma import Gemma
from fedse.agent.renderers.llama2 import Llama2
from fedse.agent.renderers.llama3 import Llama3
from fedse.agent.renderers.qwen3 import Qwen3
from fedse.errors import ModelError
from fedse.models.tiny import tiny_tokenizer
from fedse.types import Source, StopReason, Task, Trajectory, Turn


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return tiny_tokenizer()


def trajectory(*turns: tuple[str, str]) -> Trajectory:
    return Trajectory(
        task=Task("maze", "1"),
        source=Source.EXPERT,
        instruction="Walk to the goal.",
        turns=tuple(Turn(observation, response, "go", 0.0) for observation, response in turns),
        final_observation="Success",
        success=True,
        reward=1.0,
        stop=StopReason.DONE,
    )


def test_ids_spell_the_template_of_the_whole_chat(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = trajectory(("You see a wall.", "Thought: a\nAction: go"), ("You see a door.", "Thought: é\nAction: stop"))
    record = renderer_for(tokenizer).render(chat)
    whole = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in chat.messages], tokenize=False
    )
    assert tokenizer.decode(record.ids) + "\n" == whole


def test_the_mask_covers_thought_action_and_turn_end_and_nothing_else(tokenizer: PreTrainedTokenizerBase) -> None:
    responses = ("Thought: a\nAction: go", "Thought: b\nAction: stop")
    record = renderer_for(tokenizer).render(trajectory(("first", responses[0]), ("second", responses[1])))
    pieces = [tokenizer.decode(record.ids[start:end]) for start, end in record.spans]
    assert pieces == [f"{response}<|im_end|>" for response in responses]
    mask = record.mask()
    unmasked = tokenizer.decode([token for token, kept in zip(record.ids, mask, strict=True) if not kept])
    assert "Thought" not in unmasked
    assert "Action" not in unmasked
    assert mask.sum() == sum(end - start for start, end in record.spans)


def test_pieces_of_a_rollout_make_the_same_ids_as_rendering_its_text(tokenizer: PreTrainedTokenizerBase) -> None:
    renderer = renderer_for(tokenizer)
    chat = trajectory(("one", "Thought: a\nAction: b"), ("two", "Thought: c\nAction: d"))
    ids = renderer.opening(chat.instruction, "one")
    ids += renderer.reply("Thought: a\nAction: b")
    ids += renderer.continuation("two")
    ids += renderer.reply("Thought: c\nAction: d")
    assert tuple(ids) == renderer.render(chat).ids


def test_decoding_drops_the_tokens_that_end_a_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    renderer = renderer_for(tokenizer)
    assert renderer.decode(renderer.reply("Action: ü")) == "Action: ü"


def test_a_template_without_system_role_puts_the_instruction_into_the_first_message(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    text = tokenizer.decode(renderer_for(tokenizer).opening("The rules.", "The first view."))
    assert text == "<|im_start|>user\nThe rules.\n\nThe first view.<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_rewrites_history_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{{ messages|length }}{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    with pytest.raises(ModelError, match="rewrites earlier turns"):
        renderer_for(tokenizer)


def test_the_fingerprint_follows_vocabulary_and_template(tokenizer: PreTrainedTokenizerBase) -> None:
    before = renderer_for(tokenizer).fingerprint
    assert renderer_for(tiny_tokenizer()).fingerprint == before
    tokenizer.chat_template = str(tokenizer.chat_template).replace("<|im_end|>", " <|im_end|>")
    assert renderer_for(tokenizer).fingerprint != before


#: In the manner of Qwen3: without thinking a turn opens with an empty thought, which later turns no longer show.
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
#: In the manner of Llama 2: no header, the system message inside the first user message, spaces around replies.
SPACED = (
    "{% if messages[0].role == 'system' %}{% set rules = '<<' + messages[0].content + '>>' %}"
    "{% set rest = messages[1:] %}{% else %}{% set rules = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}{% if message.role == 'user' %}"
    "{{ '[INST] ' + (rules if loop.first else '') + message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def test_a_template_that_can_think_is_asked_not_to(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = THINKING
    renderer = renderer_for(tokenizer)
    record = renderer.render(trajectory(("one", "Thought: a\nAction: b"), ("two", "Thought: c\nAction: d")))
    opened = "<|im_start|>assistant\n<think>\n\n</think>\n\nThought: "
    assert tokenizer.decode(record.ids).count(opened) == 2
    pieces = [tokenizer.decode(record.ids[start:end]) for start, end in record.spans]
    assert pieces == ["Thought: a\nAction: b<|im_end|>", "Thought: c\nAction: d<|im_end|>"]
    assert tokenizer.decode(renderer.opening("r", "o")).endswith("</think>\n\n")


def test_what_the_model_thought_all_the_same_is_no_part_of_its_reply(tokenizer: PreTrainedTokenizerBase) -> None:
    thoughtful = "<think>\nAction: not this\n</think>\n\nThought: a\nAction: b"
    assert renderer_for(tokenizer).decode(renderer_for(tokenizer).reply(thoughtful)) == thoughtful
    tokenizer.chat_template = THINKING
    renderer = renderer_for(tokenizer)
    assert renderer.decode(renderer.reply(thoughtful)) == "Thought: a\nAction: b"
    assert renderer.decode(renderer.reply("Thought: <think>a</think>")) == "Thought: <think>a</think>"


def test_spaces_around_replies_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = SPACED
    renderer = renderer_for(tokenizer)
    assert renderer.end_token == tokenizer.eos_token_id
    record = renderer.render(trajectory(("one", "Thought: a\nAction: b"), ("two", "Thought: c\nAction: d")))
    assert tokenizer.decode(record.ids) == (
        "[INST] <<Walk to the goal.>>one [/INST]Thought: a\nAction: b<|im_end|>"
        "[INST] two [/INST]Thought: c\nAction: d<|im_end|>"
    )


#: In the manner of Llama 3: the date of the day in the system message.
DATED = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}{%- endif %}{{ 'Today: ' + date_string + '\n' }}"
    '{{ strftime_now("%Y-%m-%d") }}'
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_a_template_that_prints_the_date_prints_the_same_one_every_day(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = DATED
    opening = tokenizer.decode(renderer_for(tokenizer).opening("r", "o"))
    assert opening.startswith("Today: 26 Jul 2024\n2024-07-26<|im_start|>system\nr<|im_end|>")


def test_a_template_may_need_what_several_families_do(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = DATED.replace(
        "{{ '<|im_start|>assistant\n' }}",
        "{{ '<|im_start|>assistant\n' }}{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    )
    renderer = renderer_for(tokenizer)
    assert isinstance(renderer, Qwen3)
    assert isinstance(renderer, Llama3)
    assert not isinstance(renderer, (Gemma, Llama2))
    opening = tokenizer.decode(renderer.opening("r", "o"))
    assert opening.startswith("Today: 26 Jul 2024\n2024-07-26<|im_start|>system\nr<|im_end|>")
    assert opening.endswith("</think>\n\n")
