"""Playing on an inference server that loads LoRA adapters while it runs.  No torch.

Each kind of server is one module with a :class:`~fedse.rollout.endpoint.dialect.Dialect`; add one to :data:`DIALECTS`,
and its name to ``rollout.endpoint.api`` in :mod:`fedse.config`.
"""

from fedse.rollout.endpoint.dialect import Dialect
from fedse.rollout.endpoint.sglang import SGLang
from fedse.rollout.endpoint.vllm import VLLM

#: ``rollout.endpoint.api`` → how that kind of server is spoken to.
DIALECTS: dict[str, Dialect] = {"vllm": VLLM(), "sglang": SGLang()}
