"""vLLM: its OpenAI-compatible completions, with token ids in and out.

Sources: https://docs.vllm.ai/en/latest/features/lora/ (loading adapters at run time),
https://docs.vllm.ai/en/latest/serving/openai_compatible_server/ (fields of a request),
https://docs.vllm.ai/en/latest/configuration/engine_args/ (``--logprobs-mode``).
"""

from __future__ import annotations

from typing import Any

from fedse.rollout.endpoint.connection import Answer
from fedse.rollout.endpoint.dialect import Said, Wish


class VLLM:
    """See :class:`~fedse.rollout.endpoint.dialect.Dialect`."""

    completions = "/v1/completions"
    load = "/v1/load_lora_adapter"
    unload = "/v1/unload_lora_adapter"
    start = "start vLLM 0.11 or later with --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"

    def request(self, wish: Wish, base: str, adapter: str | None) -> dict[str, Any]:
        """An adapter is asked for as a model of its own name."""
        return {
            "model": adapter or base,
            "prompt": list(wish.prompt),
            "max_tokens": wish.most,
            "temperature": wish.temperature,
            "min_p": wish.min_p,
            "seed": wish.seed,
            "stop_token_ids": list(wish.stops),
            "ignore_eos": True,  # no stop tokens but those above; the server would add those of the model's own files
            # The server would take these from the model's generation_config.json.
            "top_p": 1.0,
            "top_k": -1,
            "repetition_penalty": 1.0,
            "logprobs": 1,
            "return_token_ids": True,
        }

    def said(self, body: Any) -> Said:
        """Of the first choice."""
        choice = body["choices"][0]
        tokens = [int(token) for token in choice["token_ids"]]
        logprobs = [float(logprob) for logprob in choice["logprobs"]["token_logprobs"]]
        return Said(tokens, logprobs, str(choice["finish_reason"]))

    def lacks_adapter(self, answer: Answer) -> bool:
        """The model of that name does not exist."""
        return answer.status == 404

    def logprob_temperature(self, temperature: float) -> float:  # noqa: ARG002
        """They are of the raw logits, whatever the temperature: ``--logprobs-mode raw_logprobs``, the default."""
        return 1.0
