"""How well a block's rows tell its owner's inputs from others': what the strategy 'owned' rests on.

    python scripts/input_separation.py [--preset nano] [--rank 12] [--demonstrations 3]

Every site of a preset tells second moments of its layers' inputs, made of its demonstrations and the base model, as in
the first round of a run.  Rows are chosen from them, and then looked at with other demonstrations:

* seen: share of the length (squared) of the owner's inputs that lies in the rows' directions;
* others: how large other sites' inputs are in these directions, as a share of the owner's.

Medians over sites and layers.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping

import numpy as np

from fedse.adapters.moments import directions, separating, widths
from fedse.agent import renderer_for, system_prompt
from fedse.config import ClientConfig, RunConfig
from fedse.environments import make
from fedse.learning.examples import Example
from fedse.learning.moments import input_moments
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.rollout.scripted import demonstrate
from fedse.settings import load_config

#: As many directions as the widest layer has: all of them.
ALL = 4096
Moments = Mapping[str, np.ndarray]


def moments(config: RunConfig, client: ClientConfig, lora: LoraModel, count: int, seed: int) -> Moments:
    """Layer → second moments of a site's inputs in an orthonormal basis of all directions."""
    environment = make(client.environment, **client.options)
    shown = demonstrate(
        environment,
        environment.tasks("train"),
        count,
        instruction=system_prompt(environment, config.agent.prompt),
        seed=seed,
        renderer=renderer_for(lora.base.tokenizer),
    )
    return input_moments(lora, [Example.of(one) for one in shown], ALL, config.training.max_tokens)


def row(label: str, rows: Mapping[tuple[str, str], np.ndarray], test: Mapping[str, Moments]) -> str:
    """Both medians for rows of every site and layer."""
    seen, others = [], []
    for (site, layer), found in rows.items():
        own = test[site][layer]
        foreign = np.mean([test[other][layer] for other in test if other != site], axis=0)
        mine = float(np.trace(found @ own @ found.T))
        seen.append(mine / float(np.trace(own)))
        others.append(float(np.trace(found @ foreign @ found.T)) / mine)
    return f"{label:<14}{statistics.median(seen):>8.1%}{statistics.median(others):>10.1%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--rank", type=int, default=12, help="rows of a block")
    parser.add_argument("--demonstrations", type=int, default=3, help="of which a site's moments are made")
    options = parser.parse_args()
    config = load_config(options.preset)
    lora = LoraModel(load_base(config.model), config.lora)
    told, test = (
        {client.name: moments(config, client, lora, count, seed) for client in config.clients}
        for count, seed in ((options.demonstrations, 0), (12, 99))
    )
    layers = widths(lora.state())
    mean = {layer: np.mean([site[layer] for site in told.values()], axis=0) for layer in layers}
    print(f"{'rows':<14}{'seen':>8}{'others':>10}")
    drawn = {
        (site, layer): np.eye(options.rank, len(directions(layer, width, ALL)), dtype=np.float32)
        for site in told
        for layer, width in layers.items()
    }
    print(row("random", drawn, test))
    for ridge in (0.01, 0.1, 1.0, 10.0):
        rows = {
            (site, layer): separating(told[site][layer], mean[layer], options.rank, ridge=ridge)
            for site in told
            for layer in layers
        }
        print(row(f"ridge {ridge:g}", rows, test))


if __name__ == "__main__":
    main()
