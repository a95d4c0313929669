"""The configuration files of a federation over the network: ``server.yaml`` and each site's ``site.yaml``.

A file holds what its side decides.  Paths in it are relative to the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from fedse.config import ClientConfig, EndpointConfig, RunConfig
from fedse.messages import FIELDS
from fedse.names import did_you_mean
from fedse.settings.loading import read_mapping, validated, with_preset

DEFAULT_PORT = 9443
#: What a site's file says of an environment: all but what holds for the whole site.
OWN_FIELDS = tuple(name for name in ClientConfig.model_fields if name not in ("site", "rank", "disclose"))

_MEND = "docs/deployment.md describes both files"
_ADDRESS = re.compile(r"[/\\:]|^[~.]|\.[A-Za-z]")


def site_name(name: str) -> str:
    """The name itself, if a site can have it.

    Raises:
        ValueError: if it cannot be the name of a folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", name):
        raise ValueError("letters, digits, '-' and '_' only, beginning with a letter or a digit")
    return name


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets.

    Raises:
        ValueError: if it is not of that form.
    """
    match = re.fullmatch(r"(\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError("host:port, with a port from 1 to 65535")
    return match["six"] or match["host"], int(match["port"])


def join_address(host: str, port: int) -> str:
    """``host:port``, as :func:`split_address` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(value: Any) -> bool:
    """Whether a text, or one in a list or mapping, may name a file or a server, or a place of credentials."""
    if isinstance(value, Mapping):
        return value.get("auth_env") is not None or any(map(is_address, value.values()))
    if isinstance(value, list | tuple):
        return any(map(is_address, value))
    return isinstance(value, str) and bool(_ADDRESS.search(value))


def _address(text: str) -> str:
    split_address(text)
    return text


_Address = Annotated[str, AfterValidator(_address)]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerFile(_File):
    """What the server's operator decides."""

    listen: _Address = Field(
        default=f"0.0.0.0:{DEFAULT_PORT}",
        description="address and port that sites reach; the only port of a federation that is open",
    )
    certificate: Path = Field(default=Path("server.pem"), description="the server's certificate")
    private_key: Path = Field(default=Path("server.key"), description="of the certificate; nobody else may read it")
    authority: Path = Field(default=Path("ca.pem"), description="certificate of the authority that signed it")
    keys: Path = Field(
        default=Path("sites"),
        description="folder of the sites' public keys, each in <site>.pub; read again while the server runs",
    )
    folder: Path = Field(default=Path("run"), description="folder of the run: adapters, rounds, what sites told")
    reply_limit_mb: int = Field(default=512, ge=1, description="largest reply that is taken from a site, in MB")
    run: RunConfig = Field(
        description="the run, as fedse run --config takes it; it may begin from a preset (preset: nano). What only a "
        "site can know - paths, addresses, what it discloses - is in the site's own file"
    )


class Limits(_File):
    """The most that this site does for a server; a proposal that goes beyond is refused."""

    rounds: int = Field(default=200, ge=0, description="rounds of a run")
    demonstrations: int = Field(default=1000, ge=0, description="expert episodes in each environment")
    episodes_per_round: int = Field(default=1000, ge=0, description="exploration episodes a round in each environment")
    steps: int = Field(default=1000, ge=1, description="optimizer steps a round, over all environments")
    evaluation_tasks: int = Field(
        default=1000, ge=0, description="held-out episodes of an evaluation in each environment"
    )
    max_context: int = Field(default=8192, ge=64, description="tokens of an episode, and of one forward pass")
    slots: int = Field(default=64, ge=1, description="episodes decoded side by side")
    rank: int = Field(default=64, ge=1, description="rank of the adapter")
    instruction_mb: int = Field(default=512, ge=1, description="largest instruction that is taken, in MB")


class SiteFile(_File):
    """What a site's operator decides.  The server cannot change any of it."""

    site: Annotated[str, AfterValidator(site_name)] = Field(
        description="name of the site, the same as in the server's file"
    )
    server: _Address = Field(
        description="host:port of the server; the site connects to nothing else but its endpoint, if it has one"
    )
    authority: Path = Field(
        default=Path("ca.pem"), description="certificate of the authority that the server's certificate must be from"
    )
    private_key: Path = Field(
        default=Path("site.key"), description="key that the site proves its name with; nobody else may read it"
    )
    folder: Path = Field(default=Path("data"), description="folder of the site's data, which never leaves it")
    device: str = Field(default="auto", description="where the base model runs: auto, cpu, cuda, cuda:1, …")
    endpoint: EndpointConfig = EndpointConfig()
    environments: tuple[ClientConfig, ...] = Field(
        description="the site's environments, by the names that the server's file gives them under run.clients. Any "
        f"other of the keys {', '.join(OWN_FIELDS[2:])} may be added to an entry; they win over what the server "
        "proposes. Options with paths or addresses are taken from here only"
    )
    disclose: tuple[str, ...] | None = Field(
        default=None,
        description="what the site tells the server beside its answers (docs/federation.md lists the fields); null: "
        "all numbers, but no error's words",
    )
    models: tuple[str, ...] | None = Field(
        default=None, description="base models that the site is willing to load; null: those that fedse itself names"
    )
    limits: Limits = Limits()
    socket: Path = Field(
        default=Path("site.sock"), description="where fedse site status and stop reach the site's process"
    )

    @field_validator("environments")
    @classmethod
    def _one_entry_each(cls, entries: tuple[ClientConfig, ...]) -> tuple[ClientConfig, ...]:
        """What holds for the whole site, or for the run, is said once and elsewhere."""
        if not entries:
            raise ValueError("at least one environment")
        names = [entry.name.casefold() for entry in entries]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names that differ, but found twice: {', '.join(twice)}")
        if others := sorted({key for entry in entries for key in entry.model_fields_set} - {*OWN_FIELDS}):
            raise ValueError(f"entries with {', '.join(OWN_FIELDS)}, but found {', '.join(others)}")
        return entries

    @field_validator("disclose")
    @classmethod
    def _known_fields(cls, fields: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if unknown := [field for field in fields or () if field not in FIELDS]:
            hint = "".join(did_you_mean(field, FIELDS) for field in unknown)
            raise ValueError(f"{', '.join(sorted(FIELDS))}, but found {', '.join(unknown)}; {hint}".rstrip("; "))
        return fields


def load_server_file(path: Path) -> ServerFile:
    """The server's file, its paths made absolute.

    Raises:
        ConfigError: listing everything that is wrong, also what belongs into a site's file.
        UnknownNameError: if the run begins from a preset that is not known.
    """
    data = read_mapping(path)
    if isinstance(data.get("run"), dict):
        data["run"] = with_preset(data["run"], f"run in {path}")
    file = validated(ServerFile, data, [*_of_sites(data.get("run"))], origin=str(path), mend=_MEND)
    return _anchored(file, path)


def load_site_file(path: Path) -> SiteFile:
    """A site's file, its paths made absolute.

    Raises:
        ConfigError: listing everything that is wrong.
    """
    file = _anchored(validated(SiteFile, read_mapping(path), [], origin=str(path), mend=_MEND), path)
    own: dict[str, Any] = {"environments": tuple(_own_file(entry, path) for entry in file.environments)}
    if file.endpoint.adapters is not None:
        folder = str(_below(path, Path(file.endpoint.adapters)))
        own["endpoint"] = file.endpoint.model_copy(update={"adapters": folder})
    return file.model_copy(update=own)


_F = TypeVar("_F", ServerFile, SiteFile)


def _anchored(file: _F, path: Path) -> _F:
    values = {name: getattr(file, name) for name in type(file).model_fields}
    return file.model_copy(
        update={name: _below(path, value) for name, value in values.items() if isinstance(value, Path)}
    )


def _own_file(entry: ClientConfig, path: Path) -> ClientConfig:
    if entry.demonstrations_file is None:
        return entry
    return entry.model_copy(update={"demonstrations_file": str(_below(path, Path(entry.demonstrations_file)))})


def _below(file: Path, path: Path) -> Path:
    return file.absolute().parent / path.expanduser()


def own_settings(client: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a client that only its site can know: paths, addresses, and what it discloses."""
    own = {key: client[key] for key in ("demonstrations_file", "disclose") if client.get(key) is not None}
    return own | {key: client[key] for key in ("environment", "options") if is_address(client.get(key))}


def _of_sites(run: Any) -> Iterator[str]:
    rollout = run.get("rollout") if isinstance(run, dict) else None
    if isinstance(rollout, dict) and rollout.get("endpoint"):
        yield "run.rollout.endpoint: is the site's own; it belongs into its file (site.yaml), as endpoint"
    clients = run.get("clients") if isinstance(run, dict) else None
    for client in clients if isinstance(clients, list) else []:
        for key in own_settings(client) if isinstance(client, dict) else ():
            where = f"run.clients.{client.get('name')}.{key}"
            told = "names a file or a server" if key != "disclose" else "is what a site decides"
            yield f"{where}: {told}; it belongs into the site's own file (site.yaml)"
