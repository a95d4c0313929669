"""Memory of a run, computed from the base model's shapes and the configuration; docs/gpu.md derives every formula.

Symbols as in the documentation: b bytes of a weight, L layers, h hidden, m intermediate, q and k widths of the queries
and the keys of a token, H heads, V vocabulary, r rank, N tokens of one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedse.config import RunConfig
from fedse.models.rows import filled_up
from fedse.planning.architecture import Architecture, architecture_of
from fedse.texts import counted

Device = Literal["cuda", "cpu"]
Dtype = Literal["float32", "bfloat16"]

_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
# Limits of the code that the plan is about; a test compares them with it.
PASS_TOKENS = 1024
CACHE_BLOCK = 32
TILE = 32
LOGITS_AT_ONCE = 2**23
ATTENTION_BLOCK = 128
KEPT_KEYS = 1024
SMALL_HEAD = 32
# What a configuration does not tell about trajectories that lie in one row, in tokens.  They begin alike: with a site's
# instruction, of which the longest that come with fedse have fewer than 800.  And each adds some, on average so many.
LONGEST_BEGINNING = 1024
SHORTEST_REST = 64


def _whole(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in memory: what it is, and its bytes."""

    label: str
    bytes: int


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One forward pass in training: the row's tokens, the trajectories in it, and the tokens that these begin with.

    The beginning that the trajectories share lies in the row once.
    """

    tokens: int
    trajectories: int
    beginning: int

    def __str__(self) -> str:
        several = f", up to {counted(self.trajectories, 'trajectory')}" if self.trajectories > 1 else ""
        return f"{self.tokens:,} tokens{several}"

    @property
    def copied_keys(self) -> int:
        """Tokens whose keys and values a GPU keeps beside the row's own: those that each trajectory sees, put together.

        Without a common beginning a trajectory's are a part of the row's, and nothing is copied.
        """
        return self.tokens + (self.trajectories - 1) * self.beginning if self.beginning else 0

    def tiled(self, filling: int) -> int:
        """Tokens in whole tiles, as a CPU's kernel has them: trajectories of one length, the last one filled up."""
        rest, more = divmod(self.tokens - self.beginning, self.trajectories)
        last = _whole(rest + more + filling, TILE)
        return _whole(self.beginning, TILE) + (self.trajectories - 1) * _whole(rest, TILE) + last

    @property
    def kept_pairs(self) -> int:
        """Pairs of query and key whose probability a CPU keeps without the kernel: in blocks of up to 1,024 keys.

        The most that there can be: as many trajectories as the row holds end with the last such block.
        """
        pairs, room = _block_pairs(self.beginning), KEPT_KEYS - self.beginning
        if not room:
            return pairs
        whole, rest = divmod(self.tokens - self.beginning, room)
        if whole >= self.trajectories:
            whole, rest = self.trajectories, 0
        return pairs + whole * _block_pairs(room, self.beginning) + _block_pairs(rest, self.beginning)


@dataclass(frozen=True, slots=True)
class MemoryPhase:
    """What is in a process's memory at the peak of exploration and evaluation (``rollout``) or of training.

    Attributes:
        fixed: bytes that no setting but the model's own changes.
    """

    name: Literal["rollout", "training"]
    items: tuple[Item, ...]
    fixed: int

    @property
    def bytes(self) -> int:
        """The sum of the items."""
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class MemoryPlan:
    """What a run needs.

    Attributes:
        architecture, dtype: of the base model.
        workers: processes, each with a model of its own, that share the device.
        adapter_parameters: numbers in the adapter.
        phases: per process; a run without rounds has no training.
        host: per process, beside Python and its libraries; empty if the device is the host.
    """

    architecture: Architecture
    dtype: Dtype
    device: Device
    workers: int
    adapter_parameters: int
    phases: tuple[MemoryPhase, ...]
    host: tuple[Item, ...]

    @property
    def peak(self) -> int:
        """Bytes on the device, all processes in their largest phase."""
        return self.workers * max(phase.bytes for phase in self.phases)

    @property
    def host_peak(self) -> int:
        """Bytes on the host, all processes, if the device is another."""
        return self.workers * sum(item.bytes for item in self.host)

    @property
    def adapter_bytes(self) -> int:
        """Bytes of one adapter as it is exchanged, in float32."""
        return 4 * self.adapter_parameters


def plan_of(config: RunConfig) -> MemoryPlan:
    """The memory plan of a run, on the device and in the dtype that it would have.

    Raises:
        ModelError, AdapterError: if the model's shapes cannot be told, or the adapter does not fit them.
    """
    device: Device = "cpu" if config.model.device == "cpu" else "cuda"
    dtype: Dtype = "bfloat16"  # what every GPU of the last years multiplies natively
    if config.model.device in ("auto", "cpu"):
        import torch

        from fedse.models.base import has_fast_bfloat16

        here = torch.device("cuda" if config.model.device == "auto" and torch.cuda.is_available() else "cpu")
        device = "cuda" if here.type == "cuda" else "cpu"
        # The tiny model stays in float32 wherever it runs.
        dtype = "bfloat16" if has_fast_bfloat16(here) and config.model.name != "tiny" else "float32"
    if config.model.dtype != "auto":
        dtype = config.model.dtype
    return plan_memory(config, architecture_of(config.model.name), device=device, dtype=dtype)


def plan_memory(config: RunConfig, architecture: Architecture, *, device: Device, dtype: Dtype) -> MemoryPlan:
    """Plan a run's memory on a device, with base weights of a dtype.

    Raises:
        AdapterError: if the adapter changes layers that the model does not have.
    """
    targets = architecture.targets(config.lora.target_modules)
    sizes = [architecture.linears[name] for name in targets]
    adapter = architecture.layers * config.lora.rank * sum(inputs + outputs for inputs, outputs in sizes)
    adapted = architecture.layers * sum(inputs * outputs for inputs, outputs in sizes)
    shapes = _Shapes(config, architecture, device, _BYTES[dtype], targets, adapter, adapted)
    phases = (shapes.rollout(), shapes.training()) if config.rounds else (shapes.rollout(),)
    loading = Item("base weights while they are loaded", shapes.weights)
    # The server holds every site's update, their mean and the global adapter before.
    host = (loading, Item("adapters of a round", (len(config.clients) + 2) * 4 * adapter))
    return MemoryPlan(architecture, dtype, device, config.workers, adapter, phases, () if device == "cpu" else host)


@dataclass(frozen=True)
class _Shapes:
    """The formulas, over what they are formulas of."""

    config: RunConfig
    model: Architecture
    device: Device
    width: int
    targets: Sequence[str]
    adapter: int
    adapted: int

    @property
    def weights(self) -> int:
        return self.width * self.model.parameters

    def _model_items(self) -> tuple[Item, Item]:
        return Item("base weights", self.weights), Item("adapter", 4 * self.adapter)

    def rollout(self) -> MemoryPhase:
        """The adapter is merged into a copy of the weights; every slot has a cache as long as the context.

        Where an endpoint plays, the model waits for its training.
        """
        if self.config.rollout.endpoint.url is not None:
            return MemoryPhase("rollout", self._model_items(), sum(item.bytes for item in self._model_items()))
        settings, model, width = self.config.rollout, self.model, self.width
        length, dim = _whole(settings.max_context, CACHE_BLOCK), model.head_dim
        if self.device == "cpu":
            dim = _whole(dim, CACHE_BLOCK)
        slot = 2 * model.layers * model.kv_heads * dim * width * length
        sites = len(self.config.clients)  # that play in one batch, each with a slot for what its prompts begin with
        logits = model.vocabulary * (width + 3 * 4)  # and float32 softmax, its sum and its argument
        items = [*self._model_items(), Item("merged copy of the adapted weights", width * self.adapted)]
        if self.device == "cpu":
            linears = model.layers * sum(inputs * outputs for inputs, outputs in model.linears.values())
            packed = (1 if settings.weights == "int8" else width) * linears + width * model.vocabulary * model.hidden
            items.append(Item("weights packed for the processor", packed))
        fixed = sum(item.bytes for item in items)
        items += [
            Item(
                f"key-value cache, {settings.slots} + {sites} slots of {length:,} tokens",
                (settings.slots + sites) * slot,
            ),
            Item("reading a prompt as long as the context", self._reading()),
            Item("logits of all slots", settings.slots * logits),
        ]
        return MemoryPhase("rollout", tuple(items), fixed)

    def training(self) -> MemoryPhase:
        """AdamW on a float32 adapter; a forward pass keeps what its backward pass needs, nothing is recomputed."""
        largest = max(self.longest_rows(), key=lambda row: self._kept(row) + self._backward_per_token() * row.tokens)
        items = [
            *self._model_items(),
            Item("its gradients", 4 * self.adapter),
            Item("moments of AdamW", 8 * self.adapter),
            Item("temporaries of the optimizer, or cast factors", 4 * self.adapter),
            # In float32 logits and probabilities; in bfloat16 a copy of the gradient as well: 8 bytes either way.
            Item("logits, some rows at a time", 8 * min(LOGITS_AT_ONCE, largest.tokens * self.model.vocabulary)),
        ]
        fixed = sum(item.bytes for item in items)
        items += [
            Item(f"activations of {largest}", self._kept(largest)),
            Item("gradients of one layer's activations", self._backward_per_token() * largest.tokens),
        ]
        return MemoryPhase("training", tuple(items), fixed)

    def longest_rows(self) -> list[PackedRow]:
        """Forward passes of which one is the largest: a trajectory that fills the context, and rows of several.

        A trajectory that is longer than the limit has a pass of its own.  Demonstrations are not taken into account:
        one that is longer than the context has a longer pass than any of these.
        """
        training = self.config.training
        most = training.batch_tokens or training.batch_size  # a trajectory has an agent token at least
        rows = [PackedRow(tokens, 1, 0) for tokens in (self.config.rollout.max_context, training.max_tokens)]
        for beginning in range(0, LONGEST_BEGINNING + 1, SHORTEST_REST):
            trajectories = min(most, (training.max_tokens - beginning) // SHORTEST_REST)
            if trajectories > 1:
                rows.append(PackedRow(training.max_tokens, trajectories, beginning))
        return rows

    def _kept(self, row: PackedRow) -> int:
        """Bytes that the backward pass needs of a row."""
        tokens = filled_up(row.tokens) if self.device == "cpu" else row.tokens
        return self._kept_per_token() * tokens + self.model.layers * self._attended(row, tokens)

    def _attended(self, row: PackedRow, tokens: int) -> int:
        """Bytes that the attention of a layer keeps."""
        model, width = self.model, self.width
        whole = 2 * (model.query + model.key)  # queries, keys, values and output
        if self.device == "cuda":  # the logarithms of the sums, too
            return (width * whole + 4 * model.heads) * tokens + 2 * width * model.key * row.copied_keys
        if width == 4 or model.head_dim <= SMALL_HEAD:  # the kernel's tiles, in float32
            wide = whole // model.head_dim * _whole(model.head_dim, TILE)
            return (4 * wide + 4 * model.heads) * row.tiled(tokens - row.tokens)
        return width * ((whole - model.query) * tokens + model.heads * row.kept_pairs)

    def _reading(self) -> int:
        """A pass full of new tokens: what it keeps throughout, and the larger of a layer's attention and its MLP.

        On a CPU the attention keeps scores of a few tokens only.  On a GPU scores are those of one prompt that fills
        the context, since prompts are read one after another, and there are masks of all prompts.
        """
        model, context = self.model, self.config.rollout.max_context
        kept = self.width * (model.hidden + 2 * model.query // model.heads)  # embeddings, cosines and sines
        attention = self.width * (model.hidden + 2 * model.query + 2 * model.key)
        mlp = self.width * (3 * model.intermediate + 2 * model.hidden)
        scores = 0
        if self.device == "cuda":
            kept += self.width * context
            scores = min(PASS_TOKENS, context) * context * model.heads * 8  # float32, and their softmax
        return PASS_TOKENS * kept + max(scores + PASS_TOKENS * attention, PASS_TOKENS * mlp)

    def _kept_per_token(self) -> int:
        """Bytes that the backward pass needs of one token, all layers, besides their attention."""
        model, width = self.model, self.width
        norms = 2 * 4 * (model.hidden + 1)  # RMSNorm keeps its input in float32
        if model.qk_norm:
            norms += 4 * (model.query + model.key + model.heads + model.kv_heads)
        mlp = width * 3 * model.intermediate  # the gate before and after its activation, and what it is multiplied with
        hidden = width * self.config.lora.rank * len(set(self.targets))
        rotary = 2 * width * model.head_dim
        loss = width * model.hidden + 8
        return model.layers * (norms + mlp + self._kept_inputs() + hidden) + rotary + loss

    def _kept_inputs(self) -> int:
        """A frozen layer keeps nothing; an adapted one its input, which layers that read the same one share."""
        model, adapted = self.model, set(self.targets)
        if self.config.lora.dropout:  # float32 copies and masks, of every adapted layer its own
            return 8 * sum(model.linears[name][0] for name in adapted)
        readers = (
            ({"q_proj", "k_proj", "v_proj"}, model.hidden),
            ({"o_proj"}, model.query),
            ({"gate_proj", "up_proj"}, model.hidden),
            ({"down_proj"}, model.intermediate),
        )
        return self.width * sum(size for names, size in readers if names & adapted)

    def _backward_per_token(self) -> int:
        """At the peak the gradients around one MLP, and those of the hidden states."""
        return self.width * (3 * self.model.intermediate + self.model.hidden) + 8 * self.model.hidden


def _block_pairs(length: int, before: int = 0) -> int:
    """Pairs of query and key of so many tokens, computed block by block; all of them see the tokens before, too."""
    ends = [min(start + ATTENTION_BLOCK, length) for start in range(0, length, ATTENTION_BLOCK)]
    return sum((end - start) * (before + end) for start, end in zip([0, *ends], ends, strict=False))
