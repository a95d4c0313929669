"""SGLang: its own ``/generate``, with token ids in and out.

Its OpenAI-compatible completions return no token ids.

Sources: https://docs.sglang.io/docs/advanced_features/lora (loading adapters at run time),
https://docs.sglang.io/docs/basic_usage/sampling_params (fields of a request).
"""

from __future__ import annotations

from typing import Any

from fedse.rollout.endpoint.connection import Answer
from fedse.rollout.endpoint.dialect import Said, Wish


class SGLang:
    """See :class:`~fedse.rollout.endpoint.dialect.Dialect`."""

    completions = "/generate"
    load = "/load_lora_adapter"
    unload = "/unload_lora_adapter"
    start = "start SGLang with --enable-lora, --max-lora-rank and --lora-target-modules"

    def request(self, wish: Wish, base: str, adapter: str | None) -> dict[str, Any]:  # noqa: ARG002
        """The server has one base model; an adapter is named beside the prompt."""
        sampling = {
            "max_new_tokens": wish.most,
            "temperature": wish.temperature,
            "min_p": wish.min_p,
            "sampling_seed": wish.seed,
            "stop_token_ids": list(wish.stops),
            "top_p": 1.0,
            "top_k": -1,
            "repetition_penalty": 1.0,
        }
        return {
            "input_ids": list(wish.prompt),
            "sampling_params": sampling,
            "return_logprob": True,
            **({"lora_path": adapter} if adapter else {}),
        }

    def said(self, body: Any) -> Said:
        """Each generated token stands beside its log-probability."""
        told = body["meta_info"]
        drawn = [(int(token), float(logprob)) for logprob, token, *_ in told["output_token_logprobs"]]
        return Said(
            [token for token, _ in drawn], [logprob for _, logprob in drawn], str(told["finish_reason"]["type"])
        )

    def lacks_adapter(self, answer: Answer) -> bool:
        """The request is refused because of it."""
        return answer.status == 400 and "LoRA" in answer.text and "not loaded" in answer.text

    def logprob_temperature(self, temperature: float) -> float:
        """They are of the logits as they were drawn from, unless ``SGLANG_RETURN_ORIGINAL_LOGPROB`` is set."""
        return temperature
