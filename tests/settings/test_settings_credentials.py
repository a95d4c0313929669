"""Credentials have no place in a configuration: it is stored and shown."""

from __future__ import annotations

import pytest

from fedse.errors import ConfigError
from fedse.settings import load_config


@pytest.mark.parametrize(
    ("key", "place"),
    [("clients.maze.environment", "auth_env"), ("rollout.endpoint.url", "api_key_env")],
)
@pytest.mark.parametrize("address", ["http://me:secret@host:1/x", "https://secret@host"])
def test_an_address_with_credentials_is_refused_and_they_are_not_printed(key: str, place: str, address: str) -> None:
    value = f"agentgym:{address}" if "environment" in key else address
    with pytest.raises(ConfigError, match=place) as caught:
        load_config("quickstart", overrides=[f"{key}={value}"])
    assert "secret" not in str(caught.value)
    assert "host" in str(caught.value)
