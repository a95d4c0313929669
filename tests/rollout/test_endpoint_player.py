"""Playing on an inference server: against the small one of the tests, which has vLLM's or SGLang's API."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fedse.adapters.state import AdapterState
from fedse.agent import Renderer
from fedse.config import EndpointConfig, LoraConfig, ModelConfig, RolloutConfig
from fedse.errors import AdapterError, EndpointError
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.rollout.endpoint.player import EndpointPlayer
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Player, RolloutProgress, Rules
from fedse.rollout.torch.player import TorchPlayer
from fedse.types import StopReason, Task, Trajectory
from helpers.counting_environment import Counting
from helpers.endpoint_server import EndpointServer, Fault

Kind = Literal["vllm", "sglang"]
EPISODES = ("3/a", "1/b", "4/c", "2/d", "4/e", "9/f")


@pytest.fixture(params=["vllm", "sglang"])
def server(request: pytest.FixtureRequest) -> Iterator[EndpointServer]:
    with EndpointServer(request.param) as running:
        yield running


@pytest.fixture
def vllm() -> Iterator[EndpointServer]:
    with EndpointServer() as running:
        yield running


def settings(server: EndpointServer, *, temperature: float = 1.0, min_p: float = 0.0, **endpoint: Any) -> RolloutConfig:
    where = EndpointConfig(url=server.url, api=server.kind, **endpoint)
    return RolloutConfig(slots=4, max_context=512, temperature=temperature, min_p=min_p, endpoint=where)


def player_on(
    server: EndpointServer,
    lora: LoraModel,
    renderer: Renderer,
    folder: Path,
    *,
    names: Sequence[str] = ("tiny",),
    key: str | None = None,
    **options: Any,
) -> EndpointPlayer:
    config = settings(server, **options)
    return EndpointPlayer(server.url, config, renderer, names=names, fits=lora.load, folder=folder, key=key)


def play(
    player: Player, adapter: AdapterState | None, *ids: str, greedy: bool = True, **rules: Any
) -> list[Trajectory]:
    asked = [EpisodeRequest(Task("counting", task_id), seed) for seed, task_id in enumerate(ids or EPISODES)]
    return player.play(adapter, [Play(asked, Rules(Counting, "Count to the end.", greedy=greedy, **rules))])[0]


def changed(adapter: AdapterState, seed: int = 1) -> AdapterState:
    generator = np.random.default_rng(seed)
    tensors = {
        name: generator.normal(0, 0.2, array.shape).astype(np.float32) for name, array in adapter.tensors.items()
    }
    return AdapterState(tensors, adapter.meta)


class TestWhatIsPlayed:
    def test_greedy_episodes_are_those_of_the_torch_player(
        self, server: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        adapter = lora.state()
        here = play(TorchPlayer(lora, renderer, RolloutConfig(slots=4, max_context=512)), adapter)
        there = play(player_on(server, lora, renderer, tmp_path), adapter)
        assert there == here  # tokens, spans, turns and outcomes
        assert any(turn.truncated for trajectory in there for turn in trajectory.turns)

    def test_without_an_adapter_the_base_model_plays(
        self, server: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        adapter = lora.state()
        here = play(TorchPlayer(lora, renderer, RolloutConfig(slots=4, max_context=512)), None)
        player = player_on(server, lora, renderer, tmp_path)
        with_it = play(player, adapter)
        assert play(player, None) == here != with_it

    def test_episodes_of_several_plays_go_side_by_side_and_come_back_in_order(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        """Two requests are answered only when both are there."""
        both = threading.Barrier(2)
        vllm.on_reply = lambda number: (both.wait(timeout=20) and None) if number <= 2 else None
        told: list[list[RolloutProgress]] = [[], []]
        rules = Rules(Counting, "Count to the end.", greedy=True)
        plays = [
            Play([EpisodeRequest(Task("counting", task), 0) for task in tasks], rules, told[index].append)
            for index, tasks in enumerate((["1/a", "2/b"], ["3/c"]))
        ]
        results = player_on(vllm, lora, renderer, tmp_path).play(lora.state(), plays)
        assert [[one.task.id for one in part] for part in results] == [["1/a", "2/b"], ["3/c"]]
        for part, heard in zip(results, told, strict=True):
            last = heard[-1]
            assert (last.done, last.total, last.successes) == (len(part), len(part), len(part))
            assert last.tokens == sum(one.tokens.agent_tokens for one in part if one.tokens)
            assert sum(progress.done == progress.total for progress in heard) == 1

    @pytest.mark.parametrize(("kind", "told_at"), [("vllm", 1.0), ("sglang", 0.7)])
    def test_log_probabilities_are_of_the_temperature_that_the_record_says(
        self, kind: Kind, told_at: float, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        adapter = lora.state()
        with EndpointServer(kind) as server:
            episodes = play(player_on(server, lora, renderer, tmp_path, temperature=0.7), adapter, greedy=False)
        lora.load(adapter)
        for trajectory in episodes:
            record = trajectory.tokens
            assert record is not None
            assert record.logprobs is not None
            assert record.temperature == told_at
            logits = lora.base.model(torch.tensor([record.ids])).logits[0].double() / record.temperature
            chances = torch.softmax(logits, -1)
            at = np.flatnonzero(record.mask())
            expected = [float(chances[place - 1, record.ids[place]].detach()) for place in at]
            np.testing.assert_allclose(np.exp(record.logprobs), expected, rtol=1e-4)

    def test_sampled_episodes_are_repeated_by_their_seeds(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        player = player_on(vllm, lora, renderer, tmp_path)
        once = play(player, lora.state(), greedy=False)
        assert play(player, lora.state(), greedy=False) == once
        seeds = [body["seed"] for body in vllm.asked("/completions")]
        assert len(set(seeds)) == len(seeds) // 2, "every reply draws from a stream of its own"

    def test_the_rules_of_sampling_are_handed_on(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        player = player_on(vllm, lora, renderer, tmp_path, temperature=0.9, min_p=0.25)
        play(player, None, "1/a", greedy=False)
        play(player, None, "1/a", greedy=False, temperature=0.4)
        play(player, None, "1/a", greedy=True)
        sampled, colder, greedy = vllm.asked("/completions")
        assert (sampled["temperature"], sampled["min_p"]) == (0.9, 0.25)
        assert (colder["temperature"], greedy["temperature"], greedy["min_p"]) == (0.4, 0.0, 0.0)
        assert sampled["max_tokens"] == 7
        assert set(sampled["stop_token_ids"]) == renderer.stop_tokens
        # Else a model's own generation_config.json would decide.
        assert (sampled["top_p"], sampled["top_k"], sampled["repetition_penalty"]) == (1.0, -1, 1.0)

    def test_an_environment_that_cannot_be_made_ends_the_rollout(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        made: list[Counting] = []

        def make() -> Counting:
            if made:
                raise IndexError("there is one only")
            made.append(Counting())
            return made[0]

        asked = [EpisodeRequest(Task("counting", task_id), 0) for task_id in EPISODES]
        with pytest.raises(IndexError, match="one only"):
            player_on(vllm, lora, renderer, tmp_path).play(None, [Play(asked, Rules(make, "Count.", greedy=True))])

    def test_an_environments_fault_stays_one(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        stops = [one.stop for one in play(player_on(vllm, lora, renderer, tmp_path), None, "boom/2", "dead", "1/a")]
        assert stops == [StopReason.ERROR, StopReason.ERROR, StopReason.DONE]


class TestAdapter:
    def test_the_new_one_is_loaded_before_the_old_one_is_dropped(
        self, server: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        first, second = lora.state(), changed(lora.state())
        player = player_on(server, lora, renderer, tmp_path)
        play(player, first)
        play(player, first, "1/a")
        [old] = server.loaded
        assert first.digest[:16] in old
        play(player, second)
        [new] = server.loaded
        assert second.digest[:16] in new
        steps = [(place.rpartition("/")[2], body["lora_name"]) for place, body in server.told if "lora_name" in body]
        assert steps == [("load_lora_adapter", old), ("load_lora_adapter", new), ("unload_lora_adapter", old)]
        assert [path.name for path in tmp_path.glob("*/*")] == [second.digest[:16]]

    def test_nothing_is_left_behind(
        self, server: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        player = player_on(server, lora, renderer, tmp_path)
        play(player, lora.state(), "1/a")
        assert server.loaded
        del player
        gc.collect()
        assert not server.loaded
        assert not list(tmp_path.iterdir())

    def test_players_that_share_a_server_leave_each_other_their_adapters(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        one, other = (player_on(vllm, lora, renderer, tmp_path) for _ in range(2))
        first = lora.state()
        expected = play(one, first)
        play(other, first, "1/a")
        play(other, changed(first), "1/a")
        before = len(vllm.asked("/load_lora_adapter"))
        assert play(one, first) == expected
        assert len(vllm.asked("/load_lora_adapter")) == before

    def test_a_folder_that_both_see_may_be_named(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        player = player_on(vllm, lora, renderer, tmp_path / "run", adapters=str(tmp_path / "shared"))
        play(player, lora.state(), "1/a")
        [body] = vllm.asked("/load_lora_adapter")
        assert Path(body["lora_path"]).is_relative_to(tmp_path / "shared")
        assert not (tmp_path / "run").exists()

    def test_one_of_another_model_is_never_sent(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        foreign = AdapterState(lora.state().tensors, replace(lora.state().meta, base_model="another"))
        with pytest.raises(AdapterError, match="does not belong to this model"):
            play(player_on(vllm, lora, renderer, tmp_path), foreign)
        assert not vllm.told


class TestFaults:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fedse.rollout.endpoint.connection._PAUSE", 0.01)

    @pytest.mark.parametrize("fault", [500, 502, 503, 429, 408, "cut", "hang", "abort"])
    def test_what_passes_is_waited_for(
        self, fault: Fault, server: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        adapter = lora.state()
        calm = play(player_on(server, lora, renderer, tmp_path), adapter, greedy=False)
        undisturbed = len(server.asked("/completions" if server.kind == "vllm" else "/generate"))
        server.told.clear()
        server.faults += [fault, fault]
        player = player_on(server, lora, renderer, tmp_path, **({"timeout": 0.5} if fault == "hang" else {}))
        assert play(player, adapter, greedy=False) == calm
        assert len(server.asked("/completions" if server.kind == "vllm" else "/generate")) >= undisturbed + 2

    @pytest.mark.parametrize("fault", [500, 503, 429, "cut"])
    def test_so_it_is_while_an_adapter_is_loaded(
        self, fault: Fault, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        vllm.load_faults += [fault, fault]
        episodes = play(player_on(vllm, lora, renderer, tmp_path), lora.state())
        assert all(one.stop is not StopReason.ERROR for one in episodes)

    def test_an_answer_to_loading_that_was_lost_does_no_harm(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        """The server has loaded the adapter; the player asks again and is told so."""
        vllm.load_faults += ["lost"]
        play(player_on(vllm, lora, renderer, tmp_path), lora.state(), "1/a")
        assert len(vllm.asked("/load_lora_adapter")) == 2

    def test_a_restart_is_survived_with_the_same_result(
        self, server: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        adapter = lora.state()
        expected = play(player_on(server, lora, renderer, tmp_path), adapter)
        server.told.clear()
        seen: list[str] = []

        def restart() -> None:
            server.kill()
            time.sleep(0.6)  # so that requests are refused for a while
            server.start()

        restarting = threading.Thread(target=restart)
        begun = server.replies
        server.on_reply = lambda number: restarting.start() if number == begun + 6 else None
        player = player_on(server, lora, renderer, tmp_path)
        rules = Rules(Counting, "Count to the end.", greedy=True)
        asked = [EpisodeRequest(Task("counting", task), seed) for seed, task in enumerate(EPISODES)]
        [found] = player.play(adapter, [Play(asked, rules, lambda progress: seen.append(progress.trouble))])
        restarting.join()
        assert found == expected
        assert len(server.asked("/load_lora_adapter")) >= 2  # a request to load may be lost with the server
        assert any("waits for the endpoint" in trouble for trouble in seen)

    def test_an_endpoint_that_stays_away_ends_the_rollout_without_an_outcome(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        vllm.on_reply = lambda number: vllm.faults.extend([503] * 1000) if number == 3 else None
        player = player_on(vllm, lora, renderer, tmp_path, patience=0.3)
        with pytest.raises(
            EndpointError, match=r"gave no reply for 0\.3 seconds: status 503: an error on demand"
        ) as told:
            play(player, lora.state())
        assert "resume" in told.value.mend

    def test_no_such_endpoint(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        server = EndpointServer()  # which nobody starts
        with pytest.raises(EndpointError, match=r"gave no reply for 0.2 seconds: no connection") as told:
            play(player_on(server, lora, renderer, tmp_path, patience=0.2), None)
        assert "see whether it runs" in told.value.mend

    def test_a_listener_can_end_the_waiting(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        class Enough(Exception):
            pass

        def listen(progress: RolloutProgress) -> None:
            assert "no connection" in progress.trouble
            raise Enough

        closed: list[Counting] = []

        class Watched(Counting):
            def close(self) -> None:
                closed.append(self)

        player = player_on(EndpointServer(), lora, renderer, tmp_path)
        request = EpisodeRequest(Task("counting", "3/a"), 0)
        with pytest.raises(Enough):
            player.play(None, [Play([request], Rules(Watched, "Count.", greedy=True), listen)])
        assert closed


class TestRefusals:
    """What does not pass is told at once, with what mends it."""

    def refused(
        self, lora: LoraModel, renderer: Renderer, folder: Path, *, names: Sequence[str] = ("tiny",), **server: Any
    ) -> EndpointError:
        with EndpointServer(**server) as running, pytest.raises(EndpointError) as told:
            play(player_on(running, lora, renderer, folder, names=names), lora.state(), "1/a")
        return told.value

    def test_another_base_model(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        error = self.refused(lora, renderer, tmp_path, names=("nano", "fedse/nano"), model="Qwen/Qwen3-0.6B")
        assert "serves Qwen/Qwen3-0.6B, but the run's base model is nano or fedse/nano" in error.what
        assert "rollout.endpoint.model" in error.mend

    def test_a_base_model_of_another_name_is_found_by_it(
        self, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        with EndpointServer(model="mine") as server:
            player = player_on(server, lora, renderer, tmp_path, model="mine")
            assert play(player, None, "1/a")[0].success

    def test_no_adapters_at_run_time(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        error = self.refused(lora, renderer, tmp_path, runtime_lora=False)
        assert "does not load the adapter: status 404" in error.what
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in error.mend
        error = self.refused(lora, renderer, tmp_path, runtime_lora=False, kind="sglang")
        assert "--enable-lora" in error.mend

    def test_too_high_a_rank(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        error = self.refused(lora, renderer, tmp_path, max_rank=2)
        assert "LoRA rank 4 is greater than max_lora_rank 2" in error.what
        assert error.mend == "start it with a --max-lora-rank of at least 4"

    def test_a_folder_that_it_does_not_see(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("helpers.endpoint_server.load_adapter", _elsewhere)
        with pytest.raises(EndpointError, match="No adapter found") as told:
            play(player_on(vllm, lora, renderer, tmp_path), lora.state(), "1/a")
        assert "rollout.endpoint.adapters" in told.value.mend

    def test_a_server_that_always_fails_to_load(
        self, vllm: EndpointServer, lora: LoraModel, renderer: Renderer, tmp_path: Path
    ) -> None:
        vllm.load_faults += [500] * 100
        with pytest.raises(EndpointError, match="does not load the adapter: status 500: an error on demand"):
            play(player_on(vllm, lora, renderer, tmp_path), lora.state(), "1/a")

    def test_a_wrong_key(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        with EndpointServer(key="secret") as server:
            assert play(player_on(server, lora, renderer, tmp_path, key="secret"), None, "1/a")[0].success
            with pytest.raises(EndpointError, match="status 401") as told:
                play(player_on(server, lora, renderer, tmp_path, key="guess"), None, "1/a")
        assert "api_key_env" in told.value.mend
        assert "guess" not in str(told.value)

    def test_no_token_ids(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        error = self.refused(lora, renderer, tmp_path, token_ids=False)
        assert "sends no token ids" in error.what
        assert "vLLM 0.11 or later" in error.mend

    def test_too_short_a_context(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        error = self.refused(lora, renderer, tmp_path, max_length=128)
        assert "takes 128 tokens, but rollout.max_context is 512" in error.what

    def test_another_kind_of_server(self, lora: LoraModel, renderer: Renderer, tmp_path: Path) -> None:
        with EndpointServer("sglang") as server:
            config = settings(server)
            config = config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"api": "vllm"})})
            player = EndpointPlayer(server.url, config, renderer, names=["tiny"], fits=lora.load, folder=tmp_path)
            with pytest.raises(EndpointError, match="status 404") as told:
                play(player, None, "1/a")
        assert "rollout.endpoint.api" in told.value.mend


def _elsewhere(path: Path) -> AdapterState:
    raise AdapterError("there is no such folder")


def test_ranks_of_sites_may_differ(vllm: EndpointServer, renderer: Renderer, tmp_path: Path) -> None:
    """The adapter's own rank is the one that is served."""
    wide = LoraModel(load_base(ModelConfig(name="tiny")), LoraConfig(rank=8, alpha=8))
    adapter = changed(wide.initial_state(0))
    here = play(TorchPlayer(wide, renderer, RolloutConfig(slots=4, max_context=512)), adapter)
    assert play(player_on(vllm, wide, renderer, tmp_path), adapter) == here
