"""Commands that show or play single episodes, or count many: view, play, eval, ls, env."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedse.experience.trajectory_files import read_trajectories, write_trajectories
from fedse.runs.layout import RunFolder
from fedse.texts import visible
from fedse.types import Task
from helpers.cli_calls import Cli


class TestView:
    def test_the_last_round_of_a_run_is_shown_with_its_verdicts(self, cli: Cli, run_folder: Path) -> None:
        result = cli("view", run_folder)
        assert result.exit_code == 0, result.stderr
        episode = read_trajectories(RunFolder(run_folder).site("site").environment("site").trajectories(2))[0]
        assert visible(episode.final_observation) in result.stdout
        assert "client site  round 2" in result.stdout
        assert "failure, 2 turns, reward 0, out of turns" in result.stdout
        assert "2 episodes, 0 successes; 2 of 2 matching shown" in result.stdout

    def test_episodes_are_chosen_by_client_round_and_outcome(self, cli: Cli, run_folder: Path) -> None:
        shown = cli("view", run_folder, "--client", "site", "--round", "0", "--success", "--limit", "1").stdout
        assert "2 episodes, 2 successes; 1 of 2 matching shown" in shown
        assert "expert" in shown
        none = cli("view", run_folder, "--round", "0", "--failure").stdout
        assert "0 of 0 matching shown" in none

    def test_held_out_episodes_can_be_seen_too(self, cli: Cli, run_folder: Path) -> None:
        result = cli("view", run_folder, "--evaluation")
        assert (
            read_trajectories(RunFolder(run_folder).site("site").environment("site").evaluation(2))[0].task.id
            in result.stdout
        )

    def test_actions_by_chance_are_marked(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        episode = read_trajectories(RunFolder(run_folder).site("site").environment("site").trajectories(0))[0]
        first, *others = episode.turns
        marked = replace(episode, turns=(replace(first, by_chance=True), *others))
        write_trajectories(tmp_path / "some.jsonl.gz", [episode, marked])
        assert read_trajectories(tmp_path / "some.jsonl.gz") == [episode, marked]
        assert cli("view", tmp_path / "some.jsonl.gz").stdout.count("(the action was taken by chance)") == 1

    def test_an_experience_store_can_be_viewed(self, cli: Cli, run_folder: Path) -> None:
        result = cli("view", RunFolder(run_folder).site("site").environment("site").experience)
        assert "2 episodes, 2 successes" in result.stdout

    def test_the_mask_counts_the_tokens_that_carry_loss_and_shows_them_all(self, cli: Cli, run_folder: Path) -> None:
        path = RunFolder(run_folder).site("site").environment("site").trajectories(0)
        episode = read_trajectories(path)[0]
        result = cli("view", path, "--mask", "--limit", "1")
        assert result.exit_code == 0, result.stderr
        assert episode.tokens is not None
        trained = int(episode.tokens.mask().sum())
        assert f"{trained} of {len(episode.tokens.ids)} tokens carry loss" in result.stdout
        for message in episode.messages:
            assert message.content.splitlines()[0] in result.stdout

    def test_tokens_of_another_tokenizer_are_refused(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        path = RunFolder(run_folder).site("site").environment("site").trajectories(0)
        foreign = tmp_path / "foreign.jsonl.gz"
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        for line in lines:
            line["tokens"]["tokenizer"] = "0" * 16
        foreign.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in lines).encode()))
        assert "another tokenizer" in cli("view", foreign, "--mask", "--model", "tiny").stderr
        assert "--model" in cli("view", foreign, "--mask").stderr
        assert "--model has no effect without --mask" in cli("view", foreign, "--model", "tiny").stderr

    @pytest.mark.parametrize(
        ("words", "code", "mend"),
        [
            (["--client", "sight"], 2, "did you mean site?"),
            (["--round", "9"], 1, "fedse run --resume"),
        ],
    )
    def test_what_is_not_there_is_named(
        self, cli: Cli, run_folder: Path, words: list[str], code: int, mend: str
    ) -> None:
        result = cli("view", run_folder, *words)
        assert result.exit_code == code
        assert mend in result.stderr

    def test_task_names_are_shown_as_they_are(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        episode = read_trajectories(RunFolder(run_folder).site("site").environment("site").trajectories(0))[0]
        strange = tmp_path / "strange.jsonl.gz"
        write_trajectories(strange, [replace(episode, task=Task("wordle", "[/x]"))])
        result = cli("view", strange)
        assert result.exit_code == 0, result.output
        assert "[/x]" in result.stdout

    def test_a_path_that_holds_no_episodes_is_an_error(self, cli: Cli, tmp_path: Path) -> None:
        assert cli("view", tmp_path).exit_code == 1


class TestEval:
    def test_a_run_is_evaluated_as_it_was_in_training(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        episodes = tmp_path / "episodes.jsonl.gz"
        result = cli("eval", run_folder, "--base", "--episodes-to", episodes)
        assert result.exit_code == 0, result.stderr
        row = next(line for line in result.stdout.splitlines() if line.startswith("wordle"))
        assert row.split() == ["wordle", "0", "%", "[0–66]", "0", "%", "[0–66]", "2"]
        found, recorded = (
            read_trajectories(file)
            for file in (episodes, RunFolder(run_folder).site("site").environment("site").evaluation(2))
        )
        assert [episode.tokens for episode in found] == [episode.tokens for episode in recorded]
        assert f"2 episodes written to {episodes}" in result.stdout

    def test_a_single_adapter_names_its_own_base_model(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        adapter = tmp_path / "[/x]"  # which is a name and not a closing tag
        shutil.copytree(RunFolder(run_folder).server.global_adapter(1), adapter)
        result = cli("eval", adapter, "--env", "wordle", "--tasks", "1")
        assert result.exit_code == 0, result.stderr
        assert f"Success of {adapter}" in result.stdout

    def test_a_foreign_configuration_above_an_adapter_is_not_that_of_its_run(
        self, cli: Cli, run_folder: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(RunFolder(run_folder).server.global_adapter(1), tmp_path / "mine" / "adapter")
        (tmp_path / "mine" / "config.yaml").write_text("foo: 1\n")
        result = cli("eval", tmp_path / "mine" / "adapter", "--env", "wordle", "--tasks", "1")
        assert result.exit_code == 0, result.stderr

    def test_sampled_evaluation_depends_on_its_seed(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        def sampled(seed: str, name: str) -> list[object]:
            words = ["--sampled", "--temperature", "1.5", "--seed", seed, "--episodes-to", tmp_path / name]
            assert cli("eval", run_folder, *words).exit_code == 0
            return [episode.tokens for episode in read_trajectories(tmp_path / name)]

        assert sampled("1", "a.jsonl.gz") == sampled("1", "b.jsonl.gz") != sampled("2", "c.jsonl.gz")

    @pytest.mark.parametrize(
        ("words", "code", "mend"),
        [
            (["--round", "9"], 1, "rounds 0 to 2"),
            (["--env", "wordel"], 2, "did you mean wordle?"),
            (["--temperature", "0.5"], 2, "--sampled"),
            (["--seed", "1"], 2, "--sampled"),
            (["--model", "nano"], 2, "leave --model out"),
        ],
    )
    def test_what_cannot_be_evaluated_is_named(
        self, cli: Cli, run_folder: Path, words: list[str], code: int, mend: str
    ) -> None:
        result = cli("eval", run_folder, *words)
        assert result.exit_code == code
        assert mend in result.stderr


class TestPlay:
    def test_a_person_plays_by_typing_actions_and_may_leave(self, cli: Cli) -> None:
        result = cli("play", "maze", "--task", "0", input="move up\nThought: why not\nAction: move down\n")
        assert result.exit_code == 0, result.stderr
        assert "Left before the end" in result.stdout
        assert result.stdout.count("The goal is at position") >= 2

    def test_a_person_who_knows_the_way_succeeds(self, cli: Cli) -> None:
        from fedse.environments import make
        from fedse.rollout.episode import EpisodeRequest
        from fedse.rollout.scripted import ExpertPolicy, play
        from fedse.types import Source

        maze = make("maze")
        request = EpisodeRequest(maze.tasks("test")[4], 0)
        expert = play(maze, request, lambda opened: ExpertPolicy(opened, 0), instruction="", source=Source.EXPERT)
        result = cli("play", "maze", "--task", "4", input="\n".join(expert.actions) + "\n")
        assert f"success, {len(expert.turns)} turns" in result.stdout

    def test_the_expert_is_shown_turn_by_turn(self, cli: Cli) -> None:
        result = cli("play", "maze", "--who", "expert", "--seed", "2")
        assert "Action: move" in result.stdout
        assert "success, " in result.stdout

    def test_the_model_of_a_run_plays(self, cli: Cli, run_folder: Path) -> None:
        result = cli("play", "wordle", "--who", "model", "--adapter", run_folder)
        assert result.exit_code == 0, result.stderr
        assert "failure, 2 turns" in result.stdout

    def test_the_model_has_the_turns_of_its_site(self, cli: Cli, config_file: Path, tmp_path: Path) -> None:
        folder = tmp_path / "hasty"
        settings = ("--set", "clients.0.max_turns=1", "--set", "rounds=0")
        assert cli("run", "--config", config_file, "--out", folder, *settings).exit_code == 0
        result = cli("play", "wordle", "--who", "model", "--adapter", folder)
        assert "failure, 1 turn" in result.stdout
        assert "failure, 2 turns" not in result.stdout

    def test_the_seed_draws_the_task(self, cli: Cli) -> None:
        titles = [cli("play", "maze", "--seed", seed, input="").stdout.splitlines()[0] for seed in ("1", "1", "2")]
        assert titles[0] == titles[1] != titles[2]

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--adapter", "/nope", "--client", "zz"], "--adapter has no effect without --who model"),
            (["--who", "expert", "--client", "zz"], "--client has no effect without --who model"),
            (["--who", "model", "--client", "zz"], "--client has no effect without --adapter"),
        ],
    )
    def test_options_without_effect_are_refused(self, cli: Cli, words: list[str], complaint: str) -> None:
        result = cli("play", "maze", *words, input="")
        assert result.exit_code == 2
        assert complaint in result.stderr

    def test_an_unknown_task_is_a_usage_error(self, cli: Cli) -> None:
        result = cli("play", "maze", "--task", "nowhere")
        assert result.exit_code == 2
        assert "give an index from 0" in result.stderr


class TestList:
    def test_runs_are_listed_with_their_state(self, cli: Cli, run_folder: Path) -> None:
        result = cli("ls", run_folder.parent)
        row = next(line for line in result.stdout.splitlines() if "mini-seed0" in line)
        assert row.partition("mini-seed0")[2].split() == ["2/2", "wordle", "0", "%", "0", "%", "▁▁▁"]

    def test_a_run_itself_and_the_runs_of_suites_are_listed(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        assert "mini-seed0 " in cli("ls", run_folder).stdout
        suite = tmp_path / "results/nano"
        for seed in range(2):
            shutil.copytree(run_folder, suite / f"cells/tiny/fed-se/seed-{seed}")
        shutil.copytree(run_folder, suite / "cells/tiny/fed-se/.seed-2.0123456789ab.tmp")
        for folder in (tmp_path / "results", suite, suite / "cells/tiny/fed-se"):
            rows = [line.split()[0] for line in cli("ls", folder).stdout.splitlines() if "2/2" in line]
            assert rows == [str(suite / f"cells/tiny/fed-se/seed-{seed}") for seed in range(2)]

    def test_a_damaged_run_does_not_hide_the_others(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(run_folder, tmp_path / "good")
        shutil.copytree(run_folder, tmp_path / "bad")
        RunFolder(tmp_path / "bad").server.metrics.write_text("{")
        result = cli("ls", tmp_path)
        assert result.exit_code == 0
        assert "damaged" in result.stdout
        assert "2/2" in result.stdout

    def test_a_damaged_run_is_shown_as_it_is_written(self, cli: Cli, run_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(run_folder, tmp_path / "[bold]")
        config = RunFolder(tmp_path / "[bold]").server.config
        config.write_text(config.read_text() + '"[/x]": 1\n')
        result = cli("ls", tmp_path)
        assert result.exit_code == 0, result.output
        assert "[bold]" in result.stdout
        assert "[/x]" in result.stdout

    def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(self, cli: Cli, tmp_path: Path) -> None:
        assert cli("ls", tmp_path / "none").exit_code == 1
        assert cli("ls", tmp_path).exit_code == 0


class TestEnv:
    def test_environments_are_listed_and_shown(self, cli: Cli) -> None:
        listed = cli("env", "ls").stdout
        assert "maze" in listed
        assert "wordle" in listed
        shown = cli("env", "show", "maze").stdout
        assert "15 turns" in shown
        assert "The goal is at position" in shown

    def test_an_unknown_environment_is_a_usage_error(self, cli: Cli) -> None:
        result = cli("env", "show", "mase")
        assert result.exit_code == 2
        assert "maze" in result.stderr

    def test_check_passes_for_a_shipped_environment(self, cli: Cli) -> None:
        result = cli("env", "check", "maze")
        assert result.exit_code == 0, result.output

    def test_replay_counts_differences_and_fails_on_any(self, cli: Cli, tmp_path: Path) -> None:
        from fedse.environments import make
        from fedse.environments.agentgym.counterpart import counterpart_of

        record = {"env": "maze", "reset_kwargs": {"game": 0}, "steps": []}
        session = counterpart_of(make("maze")).recorded_session(record)
        record["reset"] = session.reset(game=0)
        record["steps"] = [{"action": "move up", **session.step("move up")}]
        same, other = tmp_path / "same.jsonl", tmp_path / "other.jsonl"
        same.write_text(json.dumps(record) + "\n")
        record["steps"][0]["reward"] = 42
        other.write_text(json.dumps(record) + "\n")
        passed = cli("env", "replay", same)
        assert passed.exit_code == 0, passed.output
        assert "1 episode, 1 step, 0 differences" in passed.stdout
        failed = cli("env", "replay", same, other)
        assert failed.exit_code == 1
        assert "expected 42" in failed.stdout


class TestOptions:
    @pytest.mark.parametrize(
        ("words", "shown"),
        [
            (["env", "show", "maze"], "max_path=5"),
            (["env", "check", "maze"], "OK maze"),
            (["play", "maze", "--who", "expert"], "success"),
        ],
    )
    def test_an_environment_is_taken_under_the_options_given(self, cli: Cli, words: list[str], shown: str) -> None:
        result = cli(*words, "--option", "max_path=5")
        assert result.exit_code == 0, result.stderr
        assert shown in result.stdout
        wrong = cli(*words, "--option", "max_path=99")
        assert wrong.exit_code == 2
        assert "max_path" in wrong.stderr

    def test_the_task_played_is_one_of_those_that_the_options_leave(self, cli: Cli) -> None:
        missing = cli("play", "maze", "--who", "expert", "--task", "9999")
        some = cli("play", "maze", "--who", "expert", "--task", "9999", "-o", "max_path=2")
        last = [result.stderr.split("from 0 to ")[1].split(",")[0] for result in (missing, some)]
        assert int(last[1]) < int(last[0])
