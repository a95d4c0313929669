"""The model card of an exported adapter or model: every number in it is read from the run folder."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

from fedse.config import ClientConfig
from fedse.evaluation.rates import MEANS
from fedse.export.origin import Origin, found_base, hub_id
from fedse.progress import Phase
from fedse.results.exchange import UP, traffic
from fedse.results.formatting import markdown_table, percent, rate_with_interval
from fedse.results.method import has_own_adapters, scalar_names, starting_round
from fedse.results.words import (
    environment_in_words,
    rollouts_in_words,
    sampling_in_words,
    settings_in_words,
    versions_in_words,
)
from fedse.settings import dump_config
from fedse.texts import counted

CARD_NAME = "README.md"
Kind = Literal["adapter", "merged"]

_PAPER = "[arXiv 2512.08870](https://arxiv.org/abs/2512.08870)"
#: How to load the folder: a merged model, or an adapter of a base model that is on the hub, or known to fedse only.
_CODE = {
    "merged": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this-folder")
tokenizer = AutoTokenizer.from_pretrained("this-folder")""",
    "hub": """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("this-folder")
tokenizer = AutoTokenizer.from_pretrained("{name}")""",
    "here": """from peft import PeftModel

from fedse.config import ModelConfig
from fedse.models.base import load_base

base = load_base(ModelConfig(name="{name}"))
model = PeftModel.from_pretrained(base.model, "this-folder")
tokenizer = base.tokenizer""",
}


def model_card(origin: Origin, kind: Kind) -> str:
    """The card as Markdown, with the header that the Hugging Face hub reads.

    The header names no licence: that of the base model and that of the data are the publisher's to weigh.
    """
    sections = {
        "Use": _use(origin, kind),
        "Data": _data(origin),
        "Method": _method(origin),
        "Results": _results(origin),
        "What left the sites": _left_the_sites(origin),
        "Limits": _limits(origin),
        "How it was made": _making(origin),
    }
    parts = [_title(origin, kind), *(f"## {heading}\n\n{text}" for heading, text in sections.items())]
    return _header(origin, kind) + "\n" + "\n\n".join(parts) + "\n"


def _header(origin: Origin, kind: Kind) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # about a second to import

    config = origin.run.config
    splits = {client.name: client.test_split for client in config.clients}
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=f"fedse/{label}",
            dataset_name=f"{label}, {counted(rate.episodes, 'held-out episode')}",
            dataset_split=splits[origin.run.evaluators[label]],
            metric_type="success_rate",
            metric_name="success rate",
            metric_value=round(rate.rate, 4),
        )
        for label, rate in origin.after.items()
        if rate.episodes and not origin.cut
    ]
    data = ModelCardData(
        base_model=hub_id(config.model.name),
        library_name="peft" if kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["agent", "federated-learning", "fed-se", "lora"],
        model_name=config.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _title(origin: Origin, kind: Kind) -> str:
    config, rank = origin.run.config, origin.adapter.meta.rank
    size = sum(array.size for array in origin.adapter.tensors.values())
    name = hub_id(config.model.name)
    base = f"[{name}](https://huggingface.co/{name})" if name else f"the base model `{config.model.name}`"
    what = f"A LoRA adapter of rank {rank} ({size:,} numbers) for {base}"
    if kind == "merged":
        what = f"{base}, with a LoRA adapter of rank {rank} merged into its weights"
    who = f"the site {origin.client}" if origin.client else counted(len(config.clients), "site")
    environments = ", ".join(dict.fromkeys(site.environment for site in _sites(origin)))
    return (
        f"# {config.name}, round {origin.round}\n\n{what}. It acts in text environments ({environments}) by writing "
        f"{'a thought and ' if config.agent.thoughts else ''}an action in each turn, and was made by fedse at {who}."
    )


def _sites(origin: Origin) -> Sequence[ClientConfig]:
    """The sites whose experience the adapter was trained on: all, or the one whose own it is."""
    return [client for client in origin.run.config.clients if origin.client in ("", client.name)]


def _use(origin: Origin, kind: Kind) -> str:
    name = origin.run.config.model.name
    code = _CODE["merged" if kind == "merged" else "hub" if hub_id(name) else "here"].format(name=name)
    note = ""
    if kind == "adapter" and not hub_id(name) and found_base(name):
        note = (
            "\n\nOn the machine that it was made on, `AutoPeftModelForCausalLM` loads the folder as well: "
            "`adapter_config.json` has the path of the base model there."
        )
    chat = (
        f"The agent expects an environment's instruction (style `{origin.run.config.agent.prompt}`) as the system "
        f"message and observations as user messages. `fedse play` and `fedse eval` do that."
    )
    return f"```python\n{code}\n```{note}\n\n{chat}"


def _data(origin: Origin) -> str:
    places = ["site", "environment", "training split", "held-out split"]
    head = [*places, "demonstrations", "explored", "successful", "kept"]
    rows = []
    for client in _sites(origin):
        place = [client.name, environment_in_words(client, "{} ({})"), client.train_split, client.test_split]
        shown = _total(origin, client.name, Phase.DEMONSTRATE, "episodes")
        explored = [_total(origin, client.name, Phase.EXPLORE, name) for name in ("episodes", "successes", "kept")]
        rows.append([*place, shown, *explored])
    sources = [client.name for client in _sites(origin) if client.demonstrations_file]
    shown = "Demonstrations are episodes of the environments' scripted experts"
    if sources:
        shown += f"; at {', '.join(sources)}, episodes of a file that were replayed and succeeded"
    return (
        f"Episodes up to round {origin.round}, counted at each site:\n\n{_table(head, rows)}\n\n{shown}. Explored "
        f"episodes were played by the model itself. Only thoughts and actions of the agent carry loss; held-out tasks "
        f"were never trained on."
    )


def _total(origin: Origin, site: str, phase: Phase, metric: str) -> str:
    series = origin.run.series(phase, metric, site=site)
    return f"{sum(value for number, value in series.items() if number <= origin.round):,.0f}"


def _method(origin: Origin) -> str:
    config, sites = origin.run.config, _sites(origin)
    words = settings_in_words(config, sites)
    del words["sites"], words["evaluation"]  # told under Data and Results
    words |= {
        "local updates begin from": "the initial adapter" if starting_round(config, 2) == 0 else "the current adapter",
        "learning rate over a round": config.training.schedule,
        "rollouts": rollouts_in_words(config, sites),
        "rounds, of the run and here": f"{config.rounds}, {origin.round}",
    }
    about = f"Federated self-evolution of agents, after Fed-SE ({_PAPER}), in the variant that these settings describe:"
    return f"{about}\n\n{_table(['setting', 'value'], words.items())}"


def _results(origin: Origin) -> str:
    config = origin.run.config
    if origin.cut:
        rank = origin.adapter.meta.rank
        return (
            f"The adapter was compressed to rank {rank}, which cut {origin.cut:.1%} of its change of the weights. "
            f"What is left was not evaluated."
        )
    if not origin.after:
        return f"The adapter of round {origin.round} was not evaluated."
    rows = [
        [label, str(rate.episodes), rate_with_interval(origin.before.get(label), ", "), rate_with_interval(rate, ", ")]
        for label, rate in origin.after.items()
    ]
    if len(rows) > 1:
        rows += [[label, "", percent(mean(origin.before)), percent(mean(origin.after))] for label, mean in MEANS]
    decoding = "greedy decoding"
    if config.evaluation.decoding == "sampled":
        decoding = f"{config.evaluation.samples} samples a task at {sampling_in_words(config)}"
    text = f"Success on held-out tasks, {decoding}, with 95 % Wilson intervals over episodes. Before is the base model:"
    text += "\n\n" + _table(["environment", "episodes", "before", f"after round {origin.round}"], rows)
    if origin.elsewhere:
        rates = origin.elsewhere.items()
        others = [[label, str(rate.episodes), rate_with_interval(rate, ", ")] for label, rate in rates]
        text += "\n\nThe same adapter in the environments of the other sites:\n\n"
        text += _table(["environment", "episodes", f"after round {origin.round}"], others)
    lost = sum(rate.errors for rate in origin.after.values())
    return text + (f"\n\nFaults took {counted(lost, 'episode')}, which no rate counts." if lost else "")


def _left_the_sites(origin: Origin) -> str:
    config = origin.run.config
    if len(config.sites) == 1 < len(config.clients):  # as in Fed-SE's Centralized
        return (
            "One site had all environments, so that the experience of all was trained on together. This is the "
            "baseline that federated learning exists to avoid."
        )
    if has_own_adapters(config):
        return (
            "Its adapter, to the server, which gave it to no other site to train on. Each site trained its own adapter "
            "on its own experience."
        )
    names = scalar_names(config)
    numbers = f"; with each, {', '.join(names)} as a number" if names else ""
    sizes = [size for (_, _, way), size in traffic(origin.run).items() if way == UP]
    size = f", {statistics.fmean(sizes) / 2**20:.2f} MiB on average" if sizes else ""
    return (
        f"In each round the update that the strategy {config.method.strategy} asks of each site{size}{numbers}. "
        f"Instructions, observations, thoughts, actions and success of single episodes stayed at their sites."
    )


def _limits(origin: Origin) -> str:
    config = origin.run.config
    told = "the intervals tell what other tasks would do, not what other seeds would."
    if config.evaluation.episodes_per_task > 1:
        told = (
            "the intervals tell nothing of other seeds, and for other tasks they are too narrow, because samples of "
            "one task agree more than samples of different tasks."
        )
    tasks = ", ".join(f"{rate.episodes} of {label}" for label, rate in origin.after.items())
    points = [
        f"It is from round {origin.round} of a run of {config.rounds}." if origin.round < config.rounds else "",
        "It was trained and measured in simulated text environments; nothing is known of it elsewhere.",
        f"One training seed ({config.seed}): {told}",
        f"The rates rest on few episodes ({tasks}): mind the intervals." if tasks else "",
        "No differential privacy and no secure aggregation were used. An adapter can give away what it was trained on.",
        "The base model's own limits, biases and terms of use remain.",
    ]
    return "\n".join(f"- {point}" for point in points if point)


def _making(origin: Origin) -> str:
    versions = versions_in_words(origin.run)
    software = f"Versions: {versions}." if versions else "The versions of the software were not kept."
    return (
        f"Adapter {origin.adapter.digest}. {software} With the configuration below as `config.yaml`, "
        f"`fedse run --config config.yaml` runs the same again.\n\n```yaml\n{dump_config(origin.run.config)}```"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown_table(head, rows, numbers_from=len(head))
