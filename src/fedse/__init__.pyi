"""The names of ``import fedse``, and where they live.

This is the one list of them: type checkers and editors read it, and ``__init__.py`` imports by it.
"""

from fedse.adapters.files import load_adapter as load_adapter
from fedse.adapters.files import save_adapter as save_adapter
from fedse.adapters.state import AdapterMeta as AdapterMeta
from fedse.adapters.state import AdapterState as AdapterState
from fedse.agent import Renderer as Renderer
from fedse.agent import renderer_for as renderer_for
from fedse.agent import system_prompt as system_prompt
from fedse.config import LoraConfig as LoraConfig
from fedse.config import ModelConfig as ModelConfig
from fedse.config import RolloutConfig as RolloutConfig
from fedse.config import RunConfig as RunConfig
from fedse.config import TrainingConfig as TrainingConfig
from fedse.environments import Environment as Environment
from fedse.environments import EnvironmentSpec as EnvironmentSpec
from fedse.environments import Expert as Expert
from fedse.environments import PromptStyle as PromptStyle
from fedse.environments import StepResult as StepResult
from fedse.environments import TaskTraits as TaskTraits
from fedse.environments import environment_names as environment_names
from fedse.environments import make as make
from fedse.environments.checking import check_environment as check_environment
from fedse.errors import ConfigError as ConfigError
from fedse.errors import EnvironmentFault as EnvironmentFault
from fedse.errors import FedseError as FedseError
from fedse.evaluation import success_rate as success_rate
from fedse.experience.identity import task_and_actions as task_and_actions
from fedse.experience.selection import Verdict as Verdict
from fedse.experience.selection import select as select
from fedse.experience.selection import successes as successes
from fedse.federation.run import RunResult as RunResult
from fedse.federation.run import run as run
from fedse.federation.strategies import GLOBAL as GLOBAL
from fedse.federation.strategies import Sent as Sent
from fedse.federation.strategies import State as State
from fedse.federation.strategies import Strategy as Strategy
from fedse.federation.strategies import Updates as Updates
from fedse.federation.strategies import make_strategy as make_strategy
from fedse.federation.strategies import register as register
from fedse.federation.strategies import strategy_names as strategy_names
from fedse.federation.strategies.averaging import average as average
from fedse.learning.examples import Example as Example
from fedse.learning.update import local_update as local_update
from fedse.messages import Instruction as Instruction
from fedse.messages import Reply as Reply
from fedse.messages import SiteReport as SiteReport
from fedse.messages import Update as Update
from fedse.models.base import load_base as load_base
from fedse.models.catalogue import pull as pull
from fedse.models.lora import LoraModel as LoraModel
from fedse.names import unknown_name as unknown_name
from fedse.progress import Event as Event
from fedse.rollout.episode import EpisodeRequest as EpisodeRequest
from fedse.rollout.player import Play as Play
from fedse.rollout.player import Player as Player
from fedse.rollout.player import Rules as Rules
from fedse.rollout.scripted import demonstrate as demonstrate
from fedse.rollout.torch.player import TorchPlayer as TorchPlayer
from fedse.seeding import derive_seed as derive_seed
from fedse.seeding import python_random as python_random
from fedse.settings import load_config as load_config
from fedse.settings import method_names as method_names
from fedse.settings import preset_names as preset_names
from fedse.sites.site import Site as Site
from fedse.types import Source as Source
from fedse.types import StopReason as StopReason
from fedse.types import SuccessRate as SuccessRate
from fedse.types import Task as Task
from fedse.types import TokenRecord as TokenRecord
from fedse.types import Trajectory as Trajectory
from fedse.types import Turn as Turn

__version__: str
