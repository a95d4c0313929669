"""Chat templates of the forms in use: the special tokens and the logic are those of the families, the text is our own.

Left out is what no chat here has: tools, documents, images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from fedse.models.tiny import tiny_tokenizer


@dataclass(frozen=True)
class Family:
    """A template, and what our stream of a chat is to be.

    Attributes:
        template: Jinja, as in ``tokenizer_config.json``.
        special: tokens that are whole.
        bos, eos: of the tokenizer; a turn may end with another token than a text.
        opening: with ``{rules}`` and ``{first}``.
        between: the continuation with ``{next}``, after the token that ends a turn.
        end: the token that ends a turn.
        dropped: what the template's own text of a whole chat has more, or less, than our stream: (text there, here).
    """

    template: str
    special: tuple[str, ...]
    bos: str
    eos: str
    opening: str
    between: str
    end: str
    dropped: tuple[str, str] = ("", "")

    def tokenizer(self, template: str | None = None) -> PreTrainedTokenizerFast:
        """One token per byte beside the special ones; with another template of the family if one is given."""
        tokenizer = tiny_tokenizer()
        names = dict.fromkeys([*self.special, self.bos, self.eos])
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        tokenizer.bos_token, tokenizer.eos_token = self.bos, self.eos
        tokenizer.chat_template = self.template if template is None else template
        return tokenizer


_CHATML = ("<|im_start|>", "<|im_end|>")

QWEN2_5 = Family(
    template="""
{%- if messages[0].role != 'system' -%}
    {{- '<|im_start|>system\nYou are a model of a well-known name.<|im_end|>\n' -}}
{%- endif -%}
{%- for turn in messages -%}
    {{- '<|im_start|>' ~ turn.role ~ '\n' ~ turn.content ~ '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}""",
    special=_CHATML,
    bos="<|endoftext|>",
    eos="<|im_end|>",
    opening="<|im_start|>system\n{rules}<|im_end|>\n<|im_start|>user\n{first}<|im_end|>\n<|im_start|>assistant\n",
    between="\n<|im_start|>user\n{next}<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
)

#: A reply keeps its thought, empty or not, only after the last message of the user.
QWEN3 = Family(
    template="""
{%- set asked = namespace(last=0) -%}
{%- for turn in messages if turn.role == 'user' -%}{%- set asked.last = messages.index(turn) -%}{%- endfor -%}
{%- for turn in messages -%}
    {%- set said = turn.content -%}
    {%- set thought = '' -%}
    {%- if turn.role == 'assistant' and '</think>' in said -%}
        {%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') -%}
        {%- set said = said.split('</think>')[-1].lstrip('\n') -%}
    {%- endif -%}
    {{- '<|im_start|>' ~ turn.role ~ '\n' -}}
    {%- if turn.role == 'assistant' and loop.index0 > asked.last -%}
        {{- '<think>\n' ~ thought ~ '\n</think>\n\n' -}}
    {%- endif -%}
    {{- said ~ '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
    {%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}""",
    special=_CHATML,
    bos="<|endoftext|>",
    eos="<|im_end|>",
    opening=QWEN2_5.opening + "<think>\n\n</think>\n\n",
    between=QWEN2_5.between + "<think>\n\n</think>\n\n",
    end="<|im_end|>",
    dropped=("<think>\n\n</think>\n\n", ""),
)

#: The system message opens the first message of the user; roles must alternate.
GEMMA3 = Family(
    template="""
{{- bos_token -}}
{%- set rules = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' -%}
{%- set turns = messages[1:] if rules else messages -%}
{%- for turn in turns -%}
    {%- if (turn.role == 'user') != (loop.index0 is even) -%}{{- raise_exception('roles alternate') -}}{%- endif -%}
    {{- '<start_of_turn>' ~ ('model' if turn.role == 'assistant' else turn.role) ~ '\n' -}}
    {{- (rules if loop.first else '') ~ (turn.content | trim) ~ '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}""",
    special=("<start_of_turn>", "<end_of_turn>"),
    bos="<bos>",
    eos="<eos>",
    opening="<bos><start_of_turn>user\n{rules}\n\n{first}<end_of_turn>\n<start_of_turn>model\n",
    between="\n<start_of_turn>user\n{next}<end_of_turn>\n<start_of_turn>model\n",
    end="<end_of_turn>",
)

#: Knows its rules only as a list of parts, and leaves a text out, as the first template of Gemma 3's smallest does.
GEMMA3_PARTS = Family(
    template=GEMMA3.template.replace("messages[0].content ~", "messages[0].content[0].text ~"),
    special=GEMMA3.special,
    bos=GEMMA3.bos,
    eos=GEMMA3.eos,
    opening=GEMMA3.opening,
    between=GEMMA3.between,
    end=GEMMA3.end,
)

#: Prints the date, of the day where it can ask for it.
LLAMA3 = Family(
    template="""
{{- bos_token -}}
{%- if date_string is not defined -%}
    {%- if strftime_now is defined -%}{%- set date_string = strftime_now('%d %b %Y') -%}
    {%- else -%}{%- set date_string = '26 Jul 2024' -%}{%- endif -%}
{%- endif -%}
{%- set rules = (messages[0].content | trim) if messages[0].role == 'system' else '' -%}
{%- set turns = messages[1:] if messages[0].role == 'system' else messages -%}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' -}}
{{- 'Today Date: ' ~ date_string ~ '\n\n' ~ rules ~ '<|eot_id|>' -}}
{%- for turn in turns -%}
    {{- '<|start_header_id|>' ~ turn.role ~ '<|end_header_id|>\n\n' ~ (turn.content | trim) ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}""",
    special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    opening="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n{rules}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{first}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    between="<|start_header_id|>user<|end_header_id|>\n\n{next}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    end="<|eot_id|>",
)

#: A date, a switch for thinking that the rules can turn as well, and empty thoughts that stay; marks for training.
SMOLLM3 = Family(
    template="""
{%- set mode = '/think' if enable_thinking is not defined or enable_thinking else '/no_think' -%}
{%- set rules = '' -%}
{%- if messages[0].role == 'system' -%}
    {%- set rules = messages[0].content -%}
    {%- if '/no_think' in rules -%}{%- set mode = '/no_think' -%}
    {%- elif '/think' in rules -%}{%- set mode = '/think' -%}{%- endif -%}
    {%- set rules = rules.replace('/no_think', '').replace('/think', '').rstrip() -%}
{%- endif -%}
{{- '<|im_start|>system\n## Metadata\n\nToday Date: ' ~ strftime_now('%d %B %Y') ~ '\nReasoning Mode: ' ~ mode -}}
{{- '\n\n## Custom Instructions\n\n' ~ rules ~ '\n\n<|im_end|>\n' -}}
{%- set empty = '' if mode == '/think' else '<think>\n\n</think>\n' -%}
{%- for turn in messages -%}
    {%- if turn.role == 'user' -%}{{- '<|im_start|>user\n' ~ turn.content ~ '<|im_end|>\n' -}}
    {%- elif turn.role == 'assistant' -%}
        {%- generation -%}
            {{- '<|im_start|>assistant\n' ~ empty ~ turn.content.lstrip('\n') ~ '<|im_end|>\n' -}}
        {%- endgeneration -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' ~ empty -}}{%- endif -%}""",
    special=_CHATML,
    bos="<|endoftext|>",
    eos="<|im_end|>",
    opening="<|im_start|>system\n## Metadata\n\nToday Date: 26 July 2024\nReasoning Mode: /no_think\n\n"
    "## Custom Instructions\n\n{rules}\n\n<|im_end|>\n<|im_start|>user\n{first}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n",
    between="\n<|im_start|>user\n{next}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
    end="<|im_end|>",
)

#: A chat that is not to be continued is closed with the token that ends a text.
PHI4_MINI = Family(
    template="""
{%- for turn in messages -%}{{- '<|' ~ turn.role ~ '|>' ~ turn.content ~ '<|end|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- else -%}{{- eos_token -}}{%- endif -%}""",
    special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    bos="<|endoftext|>",
    eos="<|endoftext|>",
    opening="<|system|>{rules}<|end|><|user|>{first}<|end|><|assistant|>",
    between="<|user|>{next}<|end|><|assistant|>",
    end="<|end|>",
)

#: The header of the agent's turn is written within the loop; only rules of its own have a date.
GRANITE3 = Family(
    template="""
{%- if messages[0].role == 'system' -%}
    {%- set rules = messages[0].content -%}{%- set turns = messages[1:] -%}
{%- else -%}
    {%- set rules = "Today's Date: " ~ strftime_now('%B %d, %Y') ~ '.\n You are a model of a well-known name.' -%}
    {%- set turns = messages -%}
{%- endif -%}
{{- '<|start_of_role|>system<|end_of_role|>' ~ rules ~ '<|end_of_text|>\n' -}}
{%- for turn in turns -%}
    {{- '<|start_of_role|>' ~ turn.role ~ '<|end_of_role|>' ~ turn.content ~ '<|end_of_text|>\n' -}}
    {%- if loop.last and add_generation_prompt -%}{{- '<|start_of_role|>assistant<|end_of_role|>' -}}{%- endif -%}
{%- endfor -%}""",
    special=("<|start_of_role|>", "<|end_of_role|>"),
    bos="<|end_of_text|>",
    eos="<|end_of_text|>",
    opening="<|start_of_role|>system<|end_of_role|>{rules}<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>{first}"
    "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    between="\n<|start_of_role|>user<|end_of_role|>{next}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    end="<|end_of_text|>",
)

#: The system message goes into the last message of the user, wherever that is; a space before each reply.
MISTRAL = Family(
    template="""
{%- set rules = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' -%}
{%- set turns = messages[1:] if rules else messages -%}
{{- bos_token -}}
{%- for turn in turns -%}
    {%- if (turn.role == 'user') != (loop.index0 is even) -%}{{- raise_exception('roles alternate') -}}{%- endif -%}
    {%- if turn.role == 'user' -%}{{- '[INST] ' ~ (rules if loop.last else '') ~ turn.content ~ '[/INST]' -}}
    {%- else -%}{{- ' ' ~ (turn.content | trim) ~ eos_token -}}{%- endif -%}
{%- endfor -%}""",
    special=("[INST]", "[/INST]"),
    bos="<s>",
    eos="</s>",
    opening="<s>[INST] {rules}\n\n{first}[/INST]",
    between="[INST] {next}[/INST]",
    end="</s>",
    dropped=("[/INST] ", "[/INST]"),
)

#: As v0.3's is put together: what comes before the last user message is known by that message, and roles are counted.
MISTRAL_V03 = replace(
    MISTRAL,
    template="""
{%- if messages[0]['role'] == 'system' -%}
    {%- set rules = messages[0]['content'] -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- set asked = turns | selectattr('role', 'equalto', 'user') | list -%}
{%- set count = namespace(index=0) -%}
{%- for turn in turns -%}
    {%- if turn.role in ('user', 'assistant') and turn.tool_calls is undefined -%}
        {%- if (turn['role'] == 'user') != (count.index % 2 == 0) -%}
            {{- raise_exception('after the optional system message, roles must alternate') -}}
        {%- endif -%}
        {%- set count.index = count.index + 1 -%}
    {%- endif -%}
{%- endfor -%}
{{- bos_token -}}
{%- for turn in turns -%}
    {%- if turn['role'] == 'user' -%}
        {%- if turn == asked[-1] and rules is defined -%}
            {{- '[INST] ' + rules + '\n\n' + turn['content'] + '[/INST]' -}}
        {%- else -%}
            {{- '[INST] ' + turn['content'] + '[/INST]' -}}
        {%- endif -%}
    {%- elif turn['role'] == 'assistant' -%}
        {{- ' ' + turn['content'] | trim + eos_token -}}
    {%- else -%}
        {{- raise_exception('only user and assistant roles') -}}
    {%- endif -%}
{%- endfor -%}""",
)

#: The first of the family knows no system message at all.
MISTRAL_FIRST = Family(
    template="""
{{- bos_token -}}
{%- for turn in messages -%}
    {%- if (turn.role == 'user') != (loop.index0 is even) -%}{{- raise_exception('roles alternate') -}}{%- endif -%}
    {%- if turn.role == 'user' -%}{{- '[INST] ' ~ turn.content ~ ' [/INST]' -}}
    {%- else -%}{{- turn.content ~ eos_token ~ ' ' -}}{%- endif -%}
{%- endfor -%}""",
    special=MISTRAL.special,
    bos="<s>",
    eos="</s>",
    opening="<s>[INST] {rules}\n\n{first} [/INST]",
    between=" [INST] {next} [/INST]",
    end="</s>",
)

#: The later ones have a place for the rules, and rules of their own with a date.
MISTRAL_TEKKEN = Family(
    template="""
{%- set day = strftime_now('%Y-%m-%d') -%}
{%- set rules = messages[0].content if messages[0].role == 'system' else 'The current date is ' ~ day ~ '.' -%}
{%- set turns = messages[1:] if messages[0].role == 'system' else messages -%}
{{- bos_token ~ '[SYSTEM_PROMPT]' ~ rules ~ '[/SYSTEM_PROMPT]' -}}
{%- for turn in turns -%}
    {%- if turn.role == 'user' -%}{{- '[INST]' ~ turn.content ~ '[/INST]' -}}
    {%- else -%}{{- turn.content ~ eos_token -}}{%- endif -%}
{%- endfor -%}""",
    special=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    bos="<s>",
    eos="</s>",
    opening="<s>[SYSTEM_PROMPT]{rules}[/SYSTEM_PROMPT][INST]{first}[/INST]",
    between="[INST]{next}[/INST]",
    end="</s>",
)

FAMILIES = {
    "qwen2.5": QWEN2_5,
    "qwen3": QWEN3,
    "gemma3": GEMMA3,
    "gemma3-parts": GEMMA3_PARTS,
    "llama3": LLAMA3,
    "smollm3": SMOLLM3,
    "phi4-mini": PHI4_MINI,
    "granite3": GRANITE3,
    "mistral": MISTRAL,
    "mistral-v0.3": MISTRAL_V03,
    "mistral-first": MISTRAL_FIRST,
    "mistral-tekken": MISTRAL_TEKKEN,
}
