"""A LoRA adapter on a frozen base model (Hu et al., "LoRA", arXiv 2106.09685), exchanged as :class:`AdapterState`.

peft puts the low-rank branches into the model; checking, initialising and merging are done here, because peft loads an
empty or renamed state without an error, draws its initial values from the global generator, and merges in the base
weights' own precision without a way back to the exact bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import peft
import torch
from peft.tuners.lora import Linear as PeftLinear
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn

from fedse.adapters.checks import in_words, state_problems
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.config import LoraConfig
from fedse.errors import AdapterError, ModelError, boundary
from fedse.models.module_swap import swapped
from fedse.seeding import numpy_generator
from fedse.types import FloatArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fedse.models.base import BaseModel

_ADAPTER = "default"
_PREFIX = "base_model.model."  # what peft puts before module paths in its files


class LoraModel:
    """The base model with one trainable adapter.  Loading another state swaps the adapter; the base is shared.

    The low-rank branches are put into ``base.model`` in place.  Adapter parameters are float32 whatever the base is.
    A new model carries ``initial_state(0)``.

    Args:
        base: the frozen base model, without an adapter so far.
        config: rank, alpha, dropout and the linear layers to adapt.

    Raises:
        ModelError: if the base already carries an adapter.
        AdapterError: if a target module does not exist, is not a plain ``torch.nn.Linear`` or is the output embedding.
    """

    def __init__(self, base: BaseModel, config: LoraConfig) -> None:
        self.base = base
        self.config = config
        targets = _target_modules(base.model, config.target_modules)
        self.meta = AdapterMeta(config.rank, config.alpha, targets, base.fingerprint)
        peft_config = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft takes floats, its annotation says int
            lora_dropout=config.dropout,
            target_modules=list(targets),
            bias="none",
            task_type="CAUSAL_LM",
        )
        # peft initialises the branches from the global generator; our own values follow, so its state is put back.
        refused = boundary(
            ModelError, f"peft cannot adapt {type(base.model).__name__}", "take a base model of another family"
        )
        with refused, torch.random.fork_rng(devices=[]):
            peft.inject_adapter_in_model(peft_config, base.model, adapter_name=_ADAPTER)
        self.layers: Mapping[str, PeftLinear] = {
            path: module for path, module in base.model.named_modules() if isinstance(module, PeftLinear)
        }
        self._parameters: dict[str, nn.Parameter] = {}
        for path, layer in sorted(self.layers.items()):
            for suffix, branch in ((SUFFIX_A, layer.lora_A), (SUFFIX_B, layer.lora_B)):
                weight = branch[_ADAPTER].weight
                assert isinstance(weight, nn.Parameter)
                weight.data = weight.data.float()
                self._parameters[f"{_PREFIX}{path}{suffix}"] = weight
        self.is_merged = False  # whether a merged() block is open
        base.model.eval()  # type: ignore[no-untyped-call]  # peft's new dropout layers start in training mode
        self.load(self.initial_state(0))

    @property
    def names(self) -> Set[str]:
        """The names of the adapter's tensors, as in :meth:`state`."""
        return self._parameters.keys()

    @property
    def names_of_layers(self) -> Mapping[str, str]:
        """Name of a layer in an adapter, its tensors' without the factor → path of the layer in the model."""
        return {f"{_PREFIX}{path}": path for path in sorted(self.layers)}

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Name of a tensor, as in :meth:`state` → its parameter, float32."""
        return self._parameters

    def trainable(self) -> list[nn.Parameter]:
        """The adapter's parameters, float32, in the order of their names in :meth:`state`."""
        return [self._parameters[name] for name in sorted(self._parameters)]

    def linear(self, path: str) -> nn.Linear:
        """The frozen layer under the adapted layer at ``path``."""
        linear = self.layers[path].base_layer
        assert isinstance(linear, nn.Linear)  # checked before anything was adapted
        return linear

    def factors(self, path: str) -> tuple[nn.Parameter, nn.Parameter]:
        """The parameters A, shape (r, in), and B, shape (out, r), of the adapted layer at ``path``."""
        return self._parameters[f"{_PREFIX}{path}{SUFFIX_A}"], self._parameters[f"{_PREFIX}{path}{SUFFIX_B}"]

    def initial_state(self, seed: int) -> AdapterState:
        """A fresh adapter: Kaiming-uniform A with a = √5 (as peft), zero B, so that it changes nothing yet.

        It has the rank and alpha of the configuration, whatever is loaded now.  Every tensor has a random stream of its
        own; the result depends on the seed and on the tensor's name alone.
        """
        rank = self.config.rank
        tensors: dict[str, FloatArray] = {}
        for name, parameter in self._parameters.items():
            if name.endswith(SUFFIX_A):
                bound = 1.0 / math.sqrt(parameter.shape[1])  # gain √(2 / (1 + a²)) times √(3 / fan_in)
                generator = numpy_generator("adapter", seed, name)
                tensors[name] = generator.uniform(-bound, bound, (rank, parameter.shape[1])).astype(np.float32)
            else:
                tensors[name] = np.zeros((parameter.shape[0], rank), dtype=np.float32)
        return AdapterState(tensors, replace(self.meta, rank=rank, alpha=self.config.alpha))

    def state(self) -> AdapterState:
        """A copy of the current adapter."""
        tensors = {name: weight.detach().to("cpu", copy=True).numpy() for name, weight in self._parameters.items()}
        for array in tensors.values():
            array.flags.writeable = False
        return AdapterState(tensors, self.meta)

    def load(self, state: AdapterState) -> None:
        """Replace the adapter by a copy of ``state``, whose rank and alpha the model takes over.

        On an error the current adapter is left as it was.

        Raises:
            AdapterError: if the state is no sound adapter (:func:`fedse.adapters.checks.state_problems`), if its target
                modules, its names or, where it knows that, its base model are not the model's, or inside a
                :meth:`merged` block.
        """
        if self.is_merged:
            raise AdapterError("the adapter is merged into the base weights", "load after leaving the merged() block")
        self._check(state)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                values = torch.tensor(state.tensors[name])
                if parameter.shape == values.shape:
                    parameter.copy_(values)
                else:
                    parameter.data = values.to(parameter.device)
                    parameter.grad = None
        meta = self.meta = replace(state.meta, base_model=self.base.fingerprint)
        for layer in self.layers.values():
            layer.r[_ADAPTER], layer.lora_alpha[_ADAPTER], layer.scaling[_ADAPTER] = meta.rank, meta.alpha, meta.scaling
            for branch, side in ((layer.lora_A, "out_features"), (layer.lora_B, "in_features")):
                setattr(branch[_ADAPTER], side, meta.rank)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside the block ``base.model`` computes with W + s·B·A in plain linear layers: no LoRA branch, no peft.

        The sum is formed in float32 and rounded once to the base's dtype.  The original weight tensors are set aside,
        not overwritten, so that afterwards they are back bit for bit, whatever happened inside.  Costs memory for a
        second copy of the adapted weights.  Changing the adapter inside the block has no effect on the merged weights.

        Raises:
            AdapterError: if a merged block is open already.
        """
        if self.is_merged:
            raise AdapterError("the adapter is merged already", "leave the first merged() block before a second one")
        linears = {path: self.linear(path) for path in self.layers}
        originals = {path: linear.weight for path, linear in linears.items()}
        self.is_merged = True
        try:
            for path, linear in linears.items():
                # A new Parameter rather than new data in the old one, which another module may share.
                linear.weight = nn.Parameter(self._merged_weight(path), requires_grad=False)
            with swapped(self.base.model, linears):
                yield
        finally:
            for path, linear in linears.items():
                linear.weight = originals[path]
            self.is_merged = False

    @torch.no_grad()
    def _merged_weight(self, path: str) -> torch.Tensor:
        weight = self.linear(path).weight
        factor_a, factor_b = self.factors(path)
        return torch.addmm(weight.float(), factor_b, factor_a, alpha=self.meta.scaling).to(weight.dtype)

    def _check(self, state: AdapterState) -> None:
        problems = [
            f"{field} {getattr(state.meta, field)!r} instead of {getattr(self.meta, field)!r}"
            for field in ("target_modules", "base_model")
            if getattr(state.meta, field) not in (getattr(self.meta, field), "")
        ]
        problems += _name_problems("missing", self._parameters.keys() - state.tensors.keys())
        problems += _name_problems("unexpected", state.tensors.keys() - self._parameters.keys())
        problems += state_problems(state)
        for name in sorted(self._parameters.keys() & state.tensors.keys()):
            kept = 1 if name.endswith(SUFFIX_A) else 0  # the axis that is not the rank
            shape, expected = state.tensors[name].shape, tuple(self._parameters[name].shape)
            if len(shape) == 2 and shape[kept] != expected[kept]:
                problems.append(f"{name} has shape {shape} where the layer has {expected[kept]} in axis {kept}")
        if problems:
            raise AdapterError(
                f"the adapter does not belong to this model: {in_words(problems)}",
                "load it with the base model and the target modules that it was made with",
            )


def _name_problems(kind: str, names: Set[str]) -> list[str]:
    some = ", ".join(sorted(names)[:2]) + (", …" if len(names) > 2 else "")
    return [f"{len(names)} {kind} ({some})"] if names else []


def _target_modules(model: PreTrainedModel, wanted: str | Sequence[str]) -> tuple[str, ...]:
    """The sorted target names for peft, checked against the model before anything in it is changed.

    "all-linear" stands for all linear layers but the output embedding, and but those whose names stand for something
    else in other places.  peft resolves it too, but to full paths or to last components depending on the number of
    layers; here it is always the last components.
    """
    modules = dict(model.named_modules())
    if any(isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer) for module in modules.values()):
        raise ModelError(
            "the base model carries an adapter already",
            "use the existing LoraModel and load() another state, or load the base model anew",
        )
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    plain = {path for path, module in modules.items() if type(module) is nn.Linear and module is not head}
    if not plain:
        raise AdapterError(
            f"{type(model).__name__} has no torch.nn.Linear layer to adapt besides its output embedding",
            "take a base model of another family: docs/models.md lists what works",
        )
    mend = "name torch.nn.Linear layers, not the output embedding, in lora.target_modules"
    mend += "" if wanted == "all-linear" else ", or take 'all-linear'"
    if wanted == "all-linear":
        names = {path.rpartition(".")[2] for path in plain}
        names -= {path.rpartition(".")[2] for path in modules.keys() - plain} | _experts(model, names, mend)
    else:
        names = {wanted} if isinstance(wanted, str) else set(wanted)
    for name in sorted(names):
        matches = [path for path in modules if path == name or path.endswith(f".{name}")]
        unfit = [path for path in matches if path not in plain]
        if not matches or unfit:
            found = "no module has that name"
            if unfit:
                odd = modules[unfit[0]]
                found = f"{unfit[0]} is {'the output embedding' if odd is head else f'a {type(odd).__name__}'}"
            raise AdapterError(f"target module {name!r} cannot be adapted: {found}", mend)
    if not names:
        raise AdapterError("lora.target_modules leaves no layer to adapt", mend)
    if experts := _experts(model, names, mend):
        what = f"lora.target_modules names {', '.join(sorted(experts))}, by which peft means the weights of all experts"
        raise AdapterError(what, "leave them out, or take 'all-linear'")
    return tuple(sorted(names))


def _experts(model: PreTrainedModel, names: Set[str], mend: str) -> Set[str]:
    """Names that peft takes for the experts' common weights, which are no layers, wherever else they stand."""
    scratch = peft.LoraConfig(target_modules=sorted(names))
    with boundary(AdapterError, f"peft cannot adapt {', '.join(sorted(names))}", mend):
        convert_peft_config_for_transformers(scratch, model, None)
    return names - set(scratch.target_modules or ())
