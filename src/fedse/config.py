"""The configuration of a run: frozen pydantic models; a resolved one re-runs the same run.

Loading from YAML, presets and ``--set`` lives in :mod:`fedse.settings`.  A field's ``role`` tells whether a difference
in it makes another run or another method; see :mod:`fedse.runs.identity`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from fedse.addresses import without_credentials
from fedse.types import CodecName

DEFAULT_STEPS = 32


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(_Section):
    """The frozen base model."""

    name: str = Field(
        default="smollm2-135m",
        description="'smollm2-135m', 'nano', 'tiny', an imported model's name, a GGUF file, a local folder, "
        "or a Hugging Face id",
    )
    device: str = Field(
        default="auto", description="'auto', 'cpu', 'cuda', 'cuda:1', …", json_schema_extra={"role": "repetition"}
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of the base weights; 'auto' takes bfloat16 where the hardware multiplies it natively",
    )


class LoraConfig(_Section):
    """The adapter (fed-SE paper: r 8, alpha 16, all linear layers)."""

    rank: int = Field(default=8, ge=1, description="rank r of the update")
    alpha: float = Field(default=16.0, gt=0, lt=1e38, description="the update is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on the adapter's input while training")
    target_modules: str | tuple[str, ...] = Field(default="all-linear", description="'all-linear' or module names")


class ClientConfig(_Section):
    """One environment at a site, and how much is demonstrated and explored there.  Most sites have one."""

    name: str = Field(description="letters, digits, '-' and '_'; names the site, unless 'site' does")
    site: str | None = Field(
        default=None,
        description="the site that has this environment, where a site has several; default: the name",
    )
    environment: str = Field(description="a registered environment; fedse env ls shows them")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the environment")
    train_split: str = Field(default="train", description="tasks to demonstrate and to explore")
    test_split: str = Field(default="test", description="held-out tasks, for evaluation only")
    demonstrations: int = Field(default=32, ge=0, description="expert episodes that seed the experience store")
    demonstrations_file: str | None = Field(
        default=None,
        description="AgentTraj file to take the demonstrations from, instead of the expert; each is replayed",
    )
    episodes_per_round: int = Field(default=32, ge=0, description="exploration episodes a round")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="optimizer steps a round for this environment, where the site can do less or more than others; "
        "default: as the training section says",
    )
    rank: int | None = Field(
        default=None,
        ge=1,
        description="rank of this site's adapter, for strategies that serve different ranks; default: as the lora "
        "section says",
    )
    disclose: tuple[str, ...] | None = Field(
        default=None,
        description="what this site tells the server beside its answers; default: all numbers, but no error's words",
    )
    max_turns: int | None = Field(
        default=None,
        ge=1,
        description="turns of an episode at this site, in exploration and evaluation; default: as the rollout section "
        "says",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="of exploration at this site; default: as the rollout section says",
    )

    @property
    def at(self) -> str:
        """The name of the site."""
        return self.site or self.name

    @field_validator("name", "site")
    @classmethod
    def _speakable_name(cls, name: str | None) -> str | None:
        """A name is a folder and a segment of a dotted path, so it holds no separator of either."""
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError("letters, digits, '-' and '_' only, beginning with a letter or a digit")
        return name

    @field_validator("environment")
    @classmethod
    def _no_secret(cls, environment: str) -> str:
        if without_credentials(environment) != environment:
            raise ValueError("an address without credentials; those belong in .netrc, or where options.auth_env says")
        return environment


class PartitionConfig(_Section):
    """How clients with the same environment and the same training tasks divide them."""

    scheme: Literal["shared", "iid", "quantity", "dirichlet", "ordered"] = Field(
        default="shared",
        description="'shared' gives all tasks to each of them; the others divide, see heterogeneity.md",
    )
    by: Literal["kind", "size", "difficulty"] = Field(
        default="kind", description="the trait of tasks that 'dirichlet' and 'ordered' go by"
    )
    alpha: float = Field(
        default=0.5, gt=0, description="concentration of 'dirichlet' and 'quantity'; the smaller, the more sites differ"
    )


class AgentConfig(_Section):
    """How the agent is prompted."""

    prompt: Literal["concise", "full"] = Field(default="concise", description="how much the instruction explains")
    thoughts: bool = Field(
        default=True, description="whether the agent writes a thought before each action; demonstrations do likewise"
    )


class EndpointConfig(_Section):
    """An inference server that plays the episodes, instead of this machine.  Training stays here."""

    url: str | None = Field(
        default=None,
        description="address of the server, as http://127.0.0.1:8000, without /v1; default: none, episodes are played "
        "here",
    )
    api: Literal["vllm", "sglang"] = Field(default="vllm", description="which kind of server it is")
    model: str | None = Field(
        default=None, description="what the server calls the base model; default: model.name, or the model's folder"
    )
    api_key_env: str | None = Field(
        default=None, description="environment variable that has the server's key; default: no key is sent"
    )
    adapters: str | None = Field(
        default=None,
        description="folder that adapters are handed over in, which the server must see under the same path; default: "
        "endpoint/ in the run folder, or a temporary one outside of runs",
    )
    timeout: float = Field(default=300.0, gt=0, description="seconds to wait for the answer to a request")
    patience: float = Field(
        default=1800.0,
        ge=0,
        description="seconds without any reply from the server after which the run stops, and can be resumed",
    )

    @field_validator("url")
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise ValueError("http://host:port or https://host:port")
        if url is not None and without_credentials(url) != url:
            raise ValueError("an address without credentials; those belong where rollout.endpoint.api_key_env says")
        return url


class RolloutConfig(_Section):
    """How episodes are played by the model."""

    temperature: float = Field(default=1.0, gt=0, description="of exploration; greedy evaluation ignores it")
    min_p: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of exploration; tokens less likely than this share of the most likely one are not drawn; 0: all",
    )
    slots: int = Field(default=32, ge=1, description="episodes decoded side by side")
    max_context: int = Field(default=2048, ge=64, description="tokens of a whole episode")
    max_turns: int | None = Field(default=None, ge=1, description="default: the environment's own limit")
    max_repeats: int | None = Field(
        default=None,
        ge=2,
        description="the n-th time that the agent gives the same reply to the same observation ends the episode as a "
        "failure; default: never",
    )
    max_response_tokens: int | None = Field(default=None, ge=1, description="default: the environment's own limit")
    weights: Literal["model", "int8"] = Field(
        default="model",
        description="of the layers while the model plays on a CPU: as it has them, or int8, which is faster where the "
        "processor has no bfloat16, and less exact",
    )
    endpoint: EndpointConfig = Field(default=EndpointConfig(), json_schema_extra={"role": "machine"})


class TrainingConfig(_Section):
    """The local update: LoRA fine-tuning on a client's experience."""

    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate of AdamW")
    epochs: float | None = Field(default=None, gt=0, description="passes over the store in a round; instead of steps")
    steps: int | None = Field(
        default=None,
        ge=1,
        validate_default=True,
        description=f"optimizer steps in a round; instead of epochs; {DEFAULT_STEPS} when neither is given",
    )
    batch_size: int = Field(default=4, ge=1, description="trajectories in one optimizer step")
    batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="agent tokens in one optimizer step; instead of batch_size, so that sites with long and with short "
        "episodes do the same work; a store that holds less is the whole step",
    )
    b_ratio: float = Field(
        default=1.0,
        gt=0,
        description="learning rate of the B factors over that of the A factors (LoRA+); above 1 the sites' A factors "
        "stay close, so the mean of the factors is closer to the mean of the products",
    )
    max_tokens: int = Field(default=2048, ge=64, description="tokens in one forward pass; a batch is split to fit")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="learning rate over the steps of a round"
    )
    round_schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="peak learning rate over the rounds of a run"
    )
    warmup: float = Field(default=0.0, ge=0, lt=1, description="share of a round's steps with rising learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm")

    objective: Literal["sft", "weighted", "policy_gradient"] = Field(
        default="sft",
        description="what is made of a round's own episodes: 'sft' learns the kept ones; 'weighted' learns them the "
        "more, the seldomer their task is won; 'policy_gradient' makes won ones more and lost ones less likely, each "
        "against the other attempts at its task",
    )
    clip: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="of 'policy_gradient': how far the probability of a token is moved in a round",
    )
    demonstration_share: float | None = Field(
        default=None, ge=0, le=1, description="share of demonstrations in every batch; default: as they come"
    )
    recent_share: float | None = Field(
        default=None, ge=0, le=1, description="share of this round's episodes in every batch; default: as they come"
    )

    @field_validator("recent_share")
    @classmethod
    def _one_whole(cls, recent: float | None, info: ValidationInfo) -> float | None:
        shown = info.data.get("demonstration_share") or 0.0
        if recent is not None and shown + recent > 1:
            raise ValueError(f"at most 1 together with demonstration_share, which is {shown:g}")
        return recent

    @field_validator("steps")
    @classmethod
    def _one_budget(cls, steps: int | None, info: ValidationInfo) -> int | None:
        """A validator of the field, not of the model, so that it also speaks when other fields are wrong."""
        if "epochs" not in info.data:  # it is wrong itself, and reported as such
            return steps
        epochs = info.data["epochs"]
        if epochs is None:
            return DEFAULT_STEPS if steps is None else steps
        if steps is not None:
            raise ValueError(f"either steps or epochs, but epochs is {epochs:g}; set one of the two to null")
        return None


class MethodConfig(_Section):
    """Which method: the parts in which Fed-SE, FedIT and the ablations differ."""

    explore: bool = Field(default=True, description="play episodes and learn from them (false: demonstrations only)")
    warmup_rounds: int = Field(
        default=0,
        ge=0,
        description="first rounds that train on demonstrations alone; for a base model that never succeeds by itself",
    )
    attempts: int = Field(
        default=1,
        ge=1,
        description="episodes of a task in a round; tasks that were won sometimes are attempted again in the next one",
    )
    unstick: bool = Field(
        default=False,
        description="while exploring, let chance take the action wherever the agent's last one did nothing, from what "
        "the environment offers; for models that would repeat it",
    )
    filter: Literal["success", "none"] = Field(
        default="success", description="which episodes enter the experience store"
    )
    refine: tuple[Literal["shortest", "effective", "cut", "truthful"], ...] = Field(
        default=(),
        description="what of the kept episodes is learnt: 'shortest' (of a task), 'effective' (turns that did what was "
        "not undone), 'cut' (likewise, and the others are not even read, nor turns by chance that were not needed), "
        "'truthful' (turns whose thought agrees with what was shown); several combine",
    )
    history: bool = Field(default=True, description="keep experience of earlier rounds (false: only this round's)")
    strategy: str = Field(
        default="mean",
        description="what the server makes of the sites' updates: 'mean' (Fed-SE), 'weighted_mean' (FedIT), 'isolated' "
        "(nothing: every site goes on by itself), or one of another package; fedse methods lists them",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the strategy, such as server_lr")


class ExchangeConfig(_Section):
    """What crosses between the server and the sites, and for whom a round waits."""

    codec: CodecName = Field(
        default="bf16",
        description="how adapters cross, as changes from the last one that both sides have: 'fp32' (exactly), 'bf16', "
        "'int8' or 'int4' (what it loses is sent later)",
    )
    participation: float = Field(
        default=1.0, gt=0, le=1, description="share of the sites that is asked in a round, drawn anew for each"
    )
    memory: int = Field(
        default=0,
        ge=0,
        description="rounds for which the last update of a site that is not there goes on counting; each site may be "
        "the only one with its environment",
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        description="seconds that the server waits for answers; default: until all have come",
        json_schema_extra={"role": "machine"},
    )
    quorum: int = Field(
        default=1,
        ge=1,
        description="fewest sites whose updates make a round; the server waits longer than its deadline for them",
        json_schema_extra={"role": "machine"},
    )


class EvaluationConfig(_Section):
    """Success rates on held-out tasks."""

    tasks: int | None = Field(default=64, ge=1, description="held-out tasks per environment; none means all")
    decoding: Literal["greedy", "sampled"] = Field(
        default="greedy", description="how the model plays the held-out tasks"
    )
    samples: int = Field(default=1, ge=1, description="episodes per task when sampled")
    every: int = Field(
        default=1, ge=0, description="rounds between evaluations; 0: only before the first and after the last"
    )

    @property
    def episodes_per_task(self) -> int:
        """How often a held-out task is played: greedily once."""
        return self.samples if self.decoding == "sampled" else 1


class RunConfig(_Section):
    """A whole run."""

    name: str = Field(default="run", description="a name for reports", json_schema_extra={"role": "label"})
    seed: int = Field(
        default=0,
        ge=0,
        description="every random stream of the run derives from it",
        json_schema_extra={"role": "repetition"},
    )
    rounds: int = Field(default=3, ge=0, description="federation rounds; 0: only evaluate the initial adapter")
    workers: int = Field(
        default=1,
        ge=1,
        description="processes that do the sites' work side by side, each with its own base model; 1: the sites take "
        "turns in one",
        json_schema_extra={"role": "machine"},
    )
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    agent: AgentConfig = AgentConfig()
    clients: tuple[ClientConfig, ...] = Field(
        description="the environments of the sites, at least one", json_schema_extra={"role": "site"}
    )
    partition: PartitionConfig = PartitionConfig()
    rollout: RolloutConfig = RolloutConfig()
    training: TrainingConfig = TrainingConfig()
    method: MethodConfig = MethodConfig()
    exchange: ExchangeConfig = ExchangeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def sites(self) -> Mapping[str, tuple[ClientConfig, ...]]:
        """Site → its environments; both in the order of ``clients``."""
        sites: dict[str, tuple[ClientConfig, ...]] = {}
        for client in self.clients:
            sites[client.at] = (*sites.get(client.at, ()), client)
        return sites

    def turns_at(self, client: ClientConfig) -> int | None:
        """The turns that an episode may have at a site: its own number, else the run's; none: its environment's."""
        return client.max_turns or self.rollout.max_turns

    @field_validator("clients")
    @classmethod
    def _unique_clients(cls, clients: tuple[ClientConfig, ...]) -> tuple[ClientConfig, ...]:
        """Names differ also without regard to case: some file systems make one folder of ``Maze`` and ``maze``."""
        if not clients:  # not min_length, which also complains about a list whose clients are all wrong
            raise ValueError("at least one client")
        names = [client.name.casefold() for client in clients]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names that differ, but found twice: {', '.join(twice)}")
        for client in clients:
            if any(client.at.casefold() == other.name.casefold() and other.at != client.at for other in clients):
                raise ValueError(f"names of sites that no other has, but found site {client.at} of {client.name}")
            told = {(other.rank, other.disclose) for other in clients if other.at == client.at}
            if len(told) > 1:
                raise ValueError(f"one rank and one disclose for a whole site, but {client.at} has several")
        return clients
