"""The settings of a run in words, as pages and model cards tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedse.config import ClientConfig, RunConfig
from fedse.results.reading import Run
from fedse.texts import counted


def settings_in_words(config: RunConfig, sites: Sequence[ClientConfig]) -> dict[str, str]:
    """What it is called → the setting; of ``sites`` their own settings are told."""
    method, training, lora = config.method, config.training, config.lora
    steps, epochs = training.steps, training.epochs
    budget = counted(steps or 0, "step") if epochs is None else counted(epochs, "epoch")
    own_steps = _own_values({site.name: site.steps for site in sites})
    tokens, episodes = training.batch_tokens, training.batch_size
    batch = counted(tokens, "agent token") if tokens else counted(episodes, "episode")
    explores = f"from round {method.warmup_rounds + 1}" if method.explore else "never"
    options = "".join(f", {name} {value}" for name, value in sorted(method.options.items()))
    history = "all rounds" if method.history else "this round only"
    tasks = "all tasks" if config.evaluation.tasks is None else counted(config.evaluation.tasks, "task")
    targets = lora.target_modules if isinstance(lora.target_modules, str) else ", ".join(lora.target_modules)
    return {
        "base model": config.model.name,
        "adapter": f"LoRA, rank {lora.rank}, alpha {lora.alpha:g}, {targets}",
        "sites": "; ".join(
            f"{site.name}: {environment_in_words(site)}, {counted(site.demonstrations, 'demonstration')}, "
            f"{counted(site.episodes_per_round, 'episode')} a round"
            for site in sites
        ),
        "exploration": f"{explores}; filter {method.filter}; experience of {history}",
        "sharing": f"{method.strategy}{options}",
        "local update": f"{budget} a round{own_steps}, batches of {batch}, learning rate {training.learning_rate:g}",
        "evaluation": f"{tasks} an environment, {config.evaluation.decoding}",
    }


def rollouts_in_words(config: RunConfig, sites: Sequence[ClientConfig]) -> str:
    """How episodes are sampled, and how long they may be."""
    own_temperatures = _own_values({site.name: site.temperature for site in sites})
    return f"{sampling_in_words(config)}{own_temperatures}, {config.rollout.max_context} tokens of context"


def sampling_in_words(config: RunConfig) -> str:
    """How tokens are drawn."""
    least = f", min-p {config.rollout.min_p:g}" if config.rollout.min_p else ""
    return f"temperature {config.rollout.temperature:g}{least}"


def environment_in_words(site: ClientConfig, form: str = "{}({})") -> str:
    """A site's environment with its options, as in ``wordle(size=20)``."""
    options = ", ".join(f"{name}={value}" for name, value in site.options.items())
    return form.format(site.environment, options) if options else site.environment


def versions_in_words(run: Run) -> str:
    """The software that did a run; empty if it was not written down."""
    return ", ".join(f"{name} {version}" for name, version in run.versions.items())


def _own_values(values: Mapping[str, float | None]) -> str:
    """Where sites have a value of their own: which, in brackets; empty if none has."""
    own = ", ".join(f"{value:g} at {site}" for site, value in values.items() if value is not None)
    return f" ({own})" if own else ""
