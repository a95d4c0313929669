"""SCAFFOLD: the server's control variate, the sites' own, and what they do to an update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from fedse.adapters.state import AdapterState
from fedse.config import TrainingConfig
from fedse.errors import ConfigError, RunError
from fedse.federation.run import run
from fedse.federation.server import Server
from fedse.federation.strategies import State, Updates, make_strategy
from fedse.federation.strategies.scaffold import _CONTROL
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.control import Control
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients, local_update
from fedse.messages import Instruction, Purpose, Reply, Update, Work
from fedse.messages.screening import reply_problems
from fedse.models.attention_switch import attention_implementation
from fedse.progress import silent
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.runs.rounds import load_state
from helpers.learning_reference import examples, records, tiny_lora
from helpers.random_training import RandomSites
from helpers.small_adapters import A_NAME, SHAPES, random_state
from helpers.toy_runs import adapters, reply, toy_client, toy_config

BEFORE = random_state(99)


def gradient(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def control(state: State) -> dict[str, np.ndarray]:
    return {n.removeprefix(_CONTROL): array for n, array in state.arrays.items() if n.startswith(_CONTROL)}


class TestServer:
    def test_c_moves_by_the_changes_over_the_number_of_all_sites(self) -> None:
        strategy = make_strategy("scaffold", {})
        state = strategy.initial(BEFORE, dict.fromkeys("abcd", 2))
        assert strategy.instruct(state, "a").tensors == {}
        told = {site: gradient(ord(site)) for site in "abc"}
        for sites in ("abc", "b"):
            before = control(state)
            updates = {site: Update(adapter=random_state(ord(site)), tensors=told[site]) for site in sites}
            state = strategy.absorb(state, Updates.of(updates))
            for name in SHAPES:
                exact = before.get(name, 0.0) + sum(told[site][name].astype(float) for site in sites) / 4
                np.testing.assert_allclose(control(state)[name], exact, rtol=1e-5, atol=1e-6)
            sent = strategy.instruct(state, "a")
            assert sent.work == Work(control=True)
            assert all((sent.tensors[name] == array).all() for name, array in control(state).items())

    def test_the_adapter_is_the_mean_with_the_servers_step(self) -> None:
        updates = {site: Update(adapter=random_state(ord(site)), tensors=gradient(1)) for site in "ab"}
        found = []
        for name in ("scaffold", "mean"):
            strategy = make_strategy(name, {"server_lr": 1.5})
            found.append(strategy.absorb(strategy.initial(BEFORE, dict.fromkeys("ab", 2)), Updates.of(updates)))
        assert found[0].adapter().digest == found[1].adapter().digest

    def test_an_update_that_counts_again_moves_c_once(self, tmp_path: Path) -> None:
        config = toy_config(
            toy_client("a"), toy_client("b"), method={"strategy": "scaffold"}, exchange={"deadline": 60.0, "memory": 2}
        )
        Server(config, ServerFolder(tmp_path), RandomSites(BEFORE, out=frozenset({(2, "b")})), listener=silent).run()
        states = [load_state(ServerFolder(tmp_path), number) for number in range(3)]
        answer = Reply.decode(ServerFolder(tmp_path).reply(2, "a").read_bytes(), lambda _: states[1].adapter()).answer
        assert isinstance(answer, Update)
        for name, array in control(states[2]).items():
            np.testing.assert_allclose(array, control(states[1])[name] + answer.tensors[name] / 2, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("told", [{A_NAME: np.zeros((2, 5), np.float32)}, gradient(0) | {"more": np.zeros(1)}])
    def test_gradients_of_another_adapter_are_refused(self, told: dict[str, np.ndarray]) -> None:
        work = Work(control=True)
        asked = Instruction(site="a", purpose=Purpose.ROUND, round=1, adapter=BEFORE, work=work)
        tensors = {name: np.asarray(array, np.float32) for name, array in told.items()}
        [problem] = reply_problems(Reply.to(asked, Update(adapter=BEFORE, tensors=tensors)), asked, ["a"])
        assert "mean gradient" in problem
        for sound in ({}, gradient(0)):
            assert not reply_problems(Reply.to(asked, Update(adapter=BEFORE, tensors=sound)), asked, ["a"])


CONFIG = TrainingConfig(steps=3, batch_size=2, learning_rate=1e-2, weight_decay=0.0, schedule="constant")


class TestUpdate:
    def updated(self, correction: dict[str, np.ndarray], steps: int = 3) -> tuple[AdapterState, Control]:
        lora, made = tiny_lora(), Control(correction)
        config = CONFIG.model_copy(update={"steps": steps})
        local_update(lora, examples(records([30, 33], shared=8)), config, seed=0, control=made)
        return lora.state(), made

    def test_without_a_correction_nothing_changes(self) -> None:
        lora = tiny_lora()
        local_update(lora, examples(records([30, 33], shared=8)), CONFIG, seed=0)
        assert self.updated({})[0].digest == lora.state().digest
        zero = {name: np.zeros_like(array) for name, array in lora.state().tensors.items()}
        assert self.updated(zero)[0].digest == lora.state().digest

    def test_the_mean_is_that_of_the_gradients_as_they_were(self) -> None:
        lora = tiny_lora()
        batch = pack(examples(records([30, 33], shared=8)), CONFIG.max_tokens)
        with attention_implementation(lora.base.model, PACKED_ATTENTION):
            accumulate_gradients(lora, batch)
        exact = {name: parameter.grad.clone() for name, parameter in lora.parameters().items()}
        for correction in ({}, {name: 3 * gradient.numpy() for name, gradient in exact.items()}):
            _, made = self.updated(correction, steps=1)
            for name, array in made.mean().items():
                torch.testing.assert_close(torch.tensor(array), exact[name], rtol=1e-4, atol=1e-7)

    def test_a_gradient_that_is_taken_away_twice_turns_the_step_around(self) -> None:
        start = tiny_lora().state()
        plain, made = self.updated({}, steps=1)
        turned, _ = self.updated({name: -2 * array for name, array in made.mean().items()}, steps=1)
        moved = 0
        for name, begin in start.tensors.items():
            step, back = plain.tensors[name] - begin, turned.tensors[name] - begin
            clear = np.abs(made.mean()[name]) > 1e-4
            np.testing.assert_allclose(back[clear], -step[clear], atol=1e-4)
            moved += int(clear.sum())
        assert moved > 20

    def test_the_mean_is_over_all_steps(self) -> None:
        _, one = self.updated({}, steps=1)
        _, three = self.updated({}, steps=3)
        assert any(not np.allclose(array, three.mean()[name]) for name, array in one.mean().items())


@pytest.mark.usefixtures("toy", "without_flushing")
class TestRuns:
    def own(self, folder: Path, site: str, number: int) -> dict[str, np.ndarray]:
        return safetensors.numpy.load_file(RunFolder(folder).site(site).control(number))

    def test_c_is_the_mean_of_what_the_sites_keep(self, tmp_path: Path) -> None:
        run(toy_config(rounds=3, method={"strategy": "scaffold"}), tmp_path)
        c = control(load_state(RunFolder(tmp_path).server, 3))
        for name, array in c.items():
            kept = [self.own(tmp_path, site, 3)[name] for site in ("alpha", "beta")]
            np.testing.assert_allclose(array, np.mean(kept, axis=0), atol=1e-6)
        for site in ("alpha", "beta"):
            files = sorted(path.name for path in RunFolder(tmp_path).site(site).control(1).parent.iterdir())
            assert files == ["002.safetensors", "003.safetensors"]
            answer = reply(tmp_path, 3, site).answer
            assert isinstance(answer, Update)
            for name, change in answer.tensors.items():
                exact = self.own(tmp_path, site, 3)[name] - self.own(tmp_path, site, 2)[name]
                np.testing.assert_array_equal(change, exact)

    def test_a_single_site_has_nothing_to_correct(self, tmp_path: Path) -> None:
        found = []
        for strategy in ("scaffold", "mean"):
            config = toy_config(toy_client("alpha"), method={"strategy": strategy})
            run(config, tmp_path / strategy)
            found.append(adapters(tmp_path / strategy, config))
        assert found[0] == found[1]

    def test_two_sites_correct_each_other_from_the_second_round_on(self, tmp_path: Path) -> None:
        configs = {name: toy_config(method={"strategy": name}) for name in ("scaffold", "mean")}
        found = {name: adapters(run(config, tmp_path / name).folder, config) for name, config in configs.items()}
        assert found["scaffold"][:2] == found["mean"][:2]
        assert found["scaffold"][2] != found["mean"][2]

    def test_a_site_that_keeps_its_gradients_to_itself_is_told_what_to_disclose(self, tmp_path: Path) -> None:
        sites = toy_client("alpha", disclose=("examples",)), toy_client("beta")
        with pytest.raises((ConfigError, RunError), match="gradients"):
            run(toy_config(*sites, method={"strategy": "scaffold"}), tmp_path)
