"""Princeton's WebShop as AgentGym serves it, over a catalogue of our own or the original's data."""

from fedse.environments.webshop.environment import WebShop
from fedse.environments.webshop.files import read_catalogue, write_catalogue
from fedse.environments.webshop.generator import generated

__all__ = ["WebShop", "generated", "read_catalogue", "write_catalogue"]
