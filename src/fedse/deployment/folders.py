"""The folder of a federation's operator, and the folders of both sides that are made in it.

    authority/ca.key, ca.pem     the authority: signs server certificates; stays with the operator
    server/server.yaml           what the server's operator decides
    server/server.key, .pem      the server's key and certificate
    server/ca.pem                the authority's certificate
    server/sites/<site>.pub      a site that takes part
    server/revoked/<site>-….pub  a key that the server no longer takes
    site-<site>/site.yaml        what the site's operator decides
    site-<site>/site.key         the key that the site proves its name with
    site-<site>/ca.pem           the authority's certificate

``server/`` and each ``site-<site>/`` are to be moved to their machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedse.config import ClientConfig, EndpointConfig, RunConfig
from fedse.deployment import keys
from fedse.deployment.files import (
    DEFAULT_PORT,
    Limits,
    ServerFile,
    SiteFile,
    join_address,
    load_server_file,
    load_site_file,
    own_settings,
    site_name,
    split_address,
)
from fedse.errors import ConfigError, CredentialError
from fedse.settings import derive_config
from fedse.settings.commented import commented_yaml
from fedse.storage import atomic_directory, atomic_write, storage_errors

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LIST = "see what there is with: fedse federation ls"


@dataclass(frozen=True)
class Entry:
    """A line of the list of what a federation has.

    Attributes:
        kind: authority, server, site, or revoked.
        name: of the site, or the hosts of the server.
        fingerprint: of the key; empty for a site without one.
        days: until it expires; sites' keys do not.
    """

    kind: str
    name: str
    fingerprint: str
    days: float | None = None


@dataclass(frozen=True)
class FederationFolder:
    """A federation, as its operator has it on disk."""

    root: Path

    @property
    def authority(self) -> Path:
        """Of the authority; nothing in it is needed while the federation runs."""
        return self.root / "authority"

    @property
    def server(self) -> Path:
        """Of the server."""
        return self.root / "server"

    def site(self, name: str) -> Path:
        """Of a site."""
        return self.root / f"site-{name}"

    @property
    def server_file(self) -> ServerFile:
        """The server's configuration.

        Raises:
            ConfigError: if there is none, or it is wrong.
        """
        path = self.server / "server.yaml"
        if not path.is_file():
            raise ConfigError(
                f"{self.root} holds no federation: there is no {path}",
                "name its folder with --folder, or make one with: fedse federation init",
            )
        return load_server_file(path)

    @property
    def revoked(self) -> Path:
        """Of the keys that the server no longer takes."""
        return self.server / "revoked"

    def add(self, name: str, public: bytes | None = None, *, environment: str | None = None) -> bytes:
        """Let a site take part; its folder is made unless it is there.

        Args:
            name: of the site.
            public: its public key, if it made the key itself; default: a new key, whose private half goes into the
                site's folder.
            environment: of the site, if the server's run has none for it yet.

        Returns:
            The public key.

        Raises:
            ConfigError: if the name cannot be, the site takes part already, or it has no environment.
            CredentialError: if the key is revoked, another site's, or would overwrite one.
        """
        file = self.server_file
        _check_name(name)
        if taken := [path for path in file.keys.glob("*.pub") if path.stem.casefold() == name.casefold()]:
            raise ConfigError(
                f"the site {taken[0].stem} takes part already",
                f"give it another key with: fedse federation rotate {name}",
            )
        self._check_new(public)
        if not self.site(name).is_dir():
            clients = file.run.sites.get(name, ())
            if environment is not None and not clients:
                clients = (ClientConfig(name=name, environment=environment),)
            if not clients:
                raise ConfigError(
                    f"the run in {self.server / 'server.yaml'} has no environment at the site {name}",
                    "name the environment with --environment (fedse env ls lists them)",
                )
            hosts = keys.certificate_hosts(file.certificate)
            if not hosts:
                raise CredentialError(
                    f"{file.certificate} names no host", "give it one: fedse federation rotate --server"
                )
            address = join_address(hosts[0], split_address(file.listen)[1])
            with storage_errors("read", file.authority):
                authority = file.authority.read_bytes()
            with atomic_directory(self.site(name)) as folder:
                folder.chmod(keys.PRIVATE_FOLDER)
                _write_site(folder, name, address, clients, authority, EndpointConfig())
        return self._register(file, name, public, replaced=False)

    def revoke(self, name: str) -> Path:
        """Take a site's key away from the server; a server that runs notices.

        Returns:
            Where the key is now.

        Raises:
            ConfigError: if no such site takes part.
        """
        path = self._registered(self.server_file, name)
        self.revoked.mkdir(mode=keys.PRIVATE_FOLDER, exist_ok=True)
        short = keys.fingerprint(keys.read_public_key(path)).replace(" ", "")[:8]
        target = self.revoked / f"{name}-{short}.pub"
        with storage_errors("move", path):
            path.rename(target)
        return target

    def rotate_site(self, name: str, public: bytes | None = None) -> bytes:
        """Give a site another key, and revoke the one that it has; arguments and errors as of :meth:`add`."""
        file = self.server_file
        self._registered(file, name)
        return self._register(file, name, public, replaced=True)

    def rotate_server(self, hosts: Sequence[str] = (), *, days: int = keys.SERVER_DAYS) -> tuple[str, ...]:
        """Give the server another key, and a certificate of the same authority.

        Args:
            hosts: names and addresses of the server; default: those that it has.
            days: how long the certificate is good for.

        Returns:
            The hosts.

        Raises:
            CredentialError: if the authority is not here, or a host is wrong.
        """
        file = self.server_file
        hosts = tuple(hosts) or keys.certificate_hosts(file.certificate)
        made = keys.new_server_certificate(self._authority(), hosts, days=days)
        _write_private(file.private_key, made.private)
        atomic_write(file.certificate, made.public)
        return hosts

    def entries(self) -> list[Entry]:
        """What the federation has: authority, server, every site of the run or with a key, and revoked keys."""
        file = self.server_file
        registered, _ = keys.registered_keys(file.keys)
        hosts = ", ".join(keys.certificate_hosts(file.certificate))
        found = [
            Entry("authority", "", keys.certificate_fingerprint(file.authority), keys.days_left(file.authority)),
            Entry("server", hosts, keys.certificate_fingerprint(file.certificate), keys.days_left(file.certificate)),
        ]
        for name in dict.fromkeys([*file.run.sites, *registered]):
            found.append(Entry("site", name, keys.fingerprint(registered[name]) if name in registered else ""))
        for path in sorted(self.revoked.glob("*.pub")):
            name = path.stem.rpartition("-")[0]
            found.append(Entry("revoked", name, keys.fingerprint(keys.read_public_key(path))))
        return found

    def _registered(self, file: ServerFile, name: str) -> Path:
        _check_name(name)
        path = file.keys / f"{name}.pub"
        if not path.is_file():
            raise ConfigError(f"no site {name} takes part", _LIST)
        return path

    def _register(self, file: ServerFile, name: str, public: bytes | None, *, replaced: bool) -> bytes:
        target = file.keys / f"{name}.pub"
        private = self.site(name) / "site.key"
        made = None if public else keys.new_site_key()
        key = public or (made.public if made else b"")
        self._check_new(key)
        revoked = {entry.fingerprint for entry in self.entries() if entry.kind == "revoked"}
        if made:
            if private.exists() and not replaced and keys.fingerprint(keys.public_half(private)) not in revoked:
                raise CredentialError(f"{private} is there already", "move it away, or register its public half: --key")
            private.parent.mkdir(mode=keys.PRIVATE_FOLDER, exist_ok=True)
            _write_private(private, made.private)
        if replaced:
            self.revoke(name)
        atomic_write(target, key)
        return key

    def _check_new(self, public: bytes | None) -> None:
        """Refuse a key that somebody has, or that was revoked."""
        found = keys.fingerprint(public) if public else ""
        if owner := next((entry for entry in self.entries() if found and entry.fingerprint == found), None):
            other = "a key that was revoked" if owner.kind == "revoked" else f"the key of the {owner.kind} {owner.name}"
            raise CredentialError(f"this is {other}", "let the site make another: fedse federation key")

    def _authority(self) -> keys.Pair:
        files = (self.authority / "ca.key", self.authority / "ca.pem")
        if missing := [path for path in files if not path.is_file()]:
            raise CredentialError(
                f"the authority is not here: there is no {missing[0]}",
                "put the folder authority/ back for this command",
            )
        keys.check_private(files[0])
        with storage_errors("read", self.authority):
            return keys.Pair(*(path.read_bytes() for path in files))


def create(
    root: Path,
    servers: Sequence[str],
    config: RunConfig,
    *,
    days: int = keys.SERVER_DAYS,
    site_keys: bool = True,
) -> FederationFolder:
    """Make the folders of a federation, whole or not at all.

    Args:
        root: must not be there yet, or be empty.
        servers: ``host`` or ``host:port`` by which sites reach the server, the first of them as their files say it.
        config: the run; every site of it gets a folder.  What only a site can know moves into its file.
        days: how long the server's certificate is good for.
        site_keys: false: each site makes its key itself, with :func:`make_site_key`.

    Raises:
        ConfigError: if something is there, or an address is wrong.
        CredentialError: if a host is neither a name nor an address.
    """
    with storage_errors("read", root):
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigError(
                f"{root} is there already, and nothing in it is overwritten",
                "choose another folder with --out, or move it away",
            )
    addresses = [_server_address(text) for text in servers]
    host, port = addresses[0]
    if any(other != port for _, other in addresses):
        raise ConfigError("the server has one port, but --server names several", "name the same port, or none")
    for name in config.sites:
        _check_name(name)
    authority = keys.new_authority()
    server = keys.new_server_certificate(authority, [name for name, _ in addresses], days=days)
    pairs = {name: keys.new_site_key() for name in config.sites} if site_keys else {}
    with atomic_directory(root) as temporary:
        temporary.chmod(keys.PRIVATE_FOLDER)
        made = FederationFolder(temporary)
        for folder in (made.authority, made.server, made.server / "sites", *map(made.site, config.sites)):
            folder.mkdir(mode=keys.PRIVATE_FOLDER)
        _write_private(made.authority / "ca.key", authority.private)
        _write_private(made.server / "server.key", server.private)
        atomic_write(made.authority / "ca.pem", authority.public)
        atomic_write(made.server / "ca.pem", authority.public)
        atomic_write(made.server / "server.pem", server.public)
        atomic_write(made.server / "server.yaml", _server_yaml(config, [name for name, _ in addresses], port))
        for name, clients in config.sites.items():
            address = join_address(host, port)
            _write_site(made.site(name), name, address, clients, authority.public, config.rollout.endpoint)
        for name, pair in pairs.items():
            _write_private(made.site(name) / "site.key", pair.private)
            atomic_write(made.server / "sites" / f"{name}.pub", pair.public)
    return FederationFolder(root)


def make_site_key(config: Path) -> tuple[Path, bytes]:
    """Make the key of a site at the site itself, so that its private half never travels.

    Args:
        config: the site's file; the key goes where it says.

    Returns:
        The file of the public half, beside the private one, and its content.

    Raises:
        ConfigError: if the file is wrong.
        CredentialError: if there is a key already.
    """
    file = load_site_file(config)
    if file.private_key.exists():
        raise CredentialError(
            f"{file.private_key} is there already, and no key is overwritten", "to replace it, move it away first"
        )
    pair = keys.new_site_key()
    public = file.private_key.with_name(f"{file.site}.pub")
    _write_private(file.private_key, pair.private)
    atomic_write(public, pair.public)
    return public, pair.public


def dealt(config: RunConfig, sites: Sequence[str]) -> RunConfig:
    """A run with these sites.

    A site that the run has keeps its environments; the others get those that are left over, one each and in turn.

    Raises:
        ConfigError: if a name is there twice, or cannot be a site's.
    """
    if twice := sorted({name for name in sites if sites.count(name) > 1}):
        raise ConfigError(f"--sites names {', '.join(twice)} twice", "name every site once")
    left = [client for client in config.clients if client.at not in sites] or list(config.clients)
    new = [name for name in sites if name not in config.sites]
    given = {
        name: (left[at % len(left)].model_copy(update={"name": name, "site": None}),) for at, name in enumerate(new)
    }
    clients = [client for name in sites for client in (config.sites.get(name) or given[name])]
    return derive_config(config, {"clients": [client.model_dump(mode="json") for client in clients]})


def _server_address(text: str) -> tuple[str, int]:
    bare = text.count(":") != 1 and not text.startswith("[")  # a name, or an IPv6 address without brackets
    try:
        return (text, DEFAULT_PORT) if bare else split_address(text)
    except ValueError as cause:
        raise ConfigError(f"--server: found {text!r}; allowed: host or {cause}", "as in fl.example.org:9443") from cause


def _check_name(name: str) -> None:
    try:
        site_name(name)
    except ValueError as cause:
        raise ConfigError(f"a site cannot be called {name!r}: {cause}", "choose another name") from cause


def _entry(client: ClientConfig) -> dict[str, Any]:
    """A client as its site's file has it: its name, its environment, and what only the site can know."""
    own = own_settings(client.model_dump(mode="json"))
    own.pop("disclose", None)  # said once for the whole site
    return {"name": client.name, "environment": client.environment} | own


def _server_yaml(config: RunConfig, hosts: Sequence[str], port: int) -> str:
    run: dict[str, Any] = config.model_dump(
        mode="json", exclude_defaults=True, exclude={"workers": True, "rollout": {"endpoint"}}
    )
    for name in ("rounds", "seed", "name"):  # the run would be whole without them, but one wants to see them first
        run = {name: getattr(config, name), **run}
    run["clients"] = [_proposed(client) for client in run["clients"]]
    everywhere = "[::]" if ":" in hosts[0] else "0.0.0.0"
    listen = join_address(hosts[0], port) if set(hosts) <= {*_LOOPBACK} else f"{everywhere}:{port}"
    return commented_yaml(ServerFile, _whole(ServerFile, {"listen": listen, "run": run}))


def _proposed(client: Mapping[str, Any]) -> dict[str, Any]:
    own = own_settings(client)
    if "environment" in own:  # an address; the server needs to call it something
        return {**{key: value for key, value in client.items() if key not in own}, "environment": client["name"]}
    return {key: value for key, value in client.items() if key not in own}


def _write_site(
    folder: Path,
    name: str,
    address: str,
    clients: Sequence[ClientConfig],
    authority: bytes,
    endpoint: EndpointConfig,
) -> None:
    data = {
        "site": name,
        "server": address,
        "endpoint": endpoint.model_dump(mode="json"),
        "environments": [_entry(client) for client in clients],
        "disclose": clients[0].model_dump(mode="json")["disclose"],
        "limits": Limits().model_dump(mode="json"),
    }
    atomic_write(folder / "site.yaml", commented_yaml(SiteFile, _whole(SiteFile, data)))
    atomic_write(folder / "ca.pem", authority)


def _whole(model: type[ServerFile] | type[SiteFile], data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with the defaults of all other keys, in the model's order."""
    defaults = {name: field.default for name, field in model.model_fields.items()}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in defaults.items()}
    return plain | dict(data)


def _write_private(path: Path, data: bytes) -> None:
    atomic_write(path, data, mode=keys.PRIVATE_FILE)
