from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from fedse.deployment import keys
from fedse.errors import CredentialError, StorageError
from helpers.subprocesses import environment

HOSTS = ("fl.example.org", "192.0.2.7", "2001:db8::7")


@dataclass(frozen=True)
class Files:
    authority: Path
    certificate: Path
    private_key: Path


def written(folder: Path, authority: keys.Pair, server: keys.Pair) -> Files:
    files = Files(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    files.authority.write_bytes(authority.public)
    files.certificate.write_bytes(server.public)
    files.private_key.touch(mode=0o600)
    files.private_key.write_bytes(server.private)
    return files


Made = Callable[..., Files]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(hosts: Sequence[str] = HOSTS, days: int = 365, now: datetime | None = None) -> Files:
        authority = keys.new_authority(now=now)
        return written(tmp_path, authority, keys.new_server_certificate(authority, hosts, days=days, now=now))

    return make


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(files: Files, subject: x509.DNSName | x509.IPAddress) -> None:
    store = verification.Store([load(files.authority)])
    verification.PolicyBuilder().store(store).build_server_verifier(subject).verify(load(files.certificate), [])


def handshake(files: Files, host: str) -> str:
    """What a client that trusts the authority alone, and asks for a host, is told over a real connection."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files.certificate, files.private_key)
    asking = ssl.create_default_context(cafile=files.authority)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            try:
                with serving.wrap_socket(connection, server_side=True) as secured:
                    secured.sendall(b"hello")
            except (ssl.SSLError, ConnectionError):
                pass  # a client that does not trust us hangs up

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname(), timeout=10) as raw,
                asking.wrap_socket(raw, server_hostname=host) as secured,
            ):
                return secured.recv(5).decode()
        finally:
            thread.join()


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_that_trusts_the_authority_reaches_the_server_by_each_of_its_names(made: Made, host: str) -> None:
    assert handshake(made(), host) == "hello"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "other.example.org", "example.org"])
def test_no_other_name_is_in_the_certificate(made: Made, host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for|mismatch"):
        handshake(made(), host)


def test_a_certificate_of_another_authority_is_not_trusted(made: Made) -> None:
    files = made()
    files.authority.write_bytes(keys.new_authority().public)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, HOSTS[0])


def test_an_expired_certificate_is_not_trusted(made: Made) -> None:
    files = made(days=1, now=datetime.now(UTC) - timedelta(days=2))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(files, HOSTS[0])


def test_a_strict_verifier_takes_the_certificates(made: Made) -> None:
    files = made()
    verify(files, x509.DNSName(HOSTS[0]))
    verify(files, x509.IPAddress(ip_address(HOSTS[2])))
    with pytest.raises(verification.VerificationError):
        verify(files, x509.DNSName("localhost"))


def test_the_authority_signs_servers_only_and_no_further_authority(made: Made) -> None:
    files = made()
    limits = load(files.authority).extensions.get_extension_for_class(x509.BasicConstraints)
    usage = load(files.authority).extensions.get_extension_for_class(x509.KeyUsage)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert not load(files.certificate).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_certificates_hold_for_the_time_promised_and_a_day_back(made: Made) -> None:
    now = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    files = made(now=now)
    assert load(files.certificate).not_valid_before_utc == now - timedelta(days=1)
    assert keys.days_left(files.certificate, now=now) == 365
    assert round(keys.days_left(files.authority, now=now) / 365.25) == 10


def test_two_authorities_have_different_names() -> None:
    one, other = (x509.load_pem_x509_certificate(keys.new_authority().public) for _ in range(2))
    assert one.subject != other.subject


@pytest.mark.parametrize("host", ["", "a b", "*.example.org", "-x.org", "x..org", "1.2.3", "münchen.de", "a" * 300])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(CredentialError, match="neither a host name nor an IP address"):
        keys.new_server_certificate(keys.new_authority(), [host])


def test_a_server_is_checked_before_it_begins(made: Made) -> None:
    files = made()
    assert 364 < keys.check_server(files.certificate, files.private_key, files.authority) <= 365


@pytest.mark.parametrize(
    ("days", "told"), [(400, r"server.pem expired on 20.*UTC\n.*fedse federation rotate"), (-3, "good from .* clock")]
)
def test_a_certificate_out_of_its_time_is_told_with_what_to_do(made: Made, days: int, told: str) -> None:
    files = made()
    with pytest.raises(CredentialError, match=told):
        keys.check_server(
            files.certificate, files.private_key, files.authority, now=datetime.now(UTC) + timedelta(days=days)
        )


def test_files_that_do_not_belong_together_are_told_apart(made: Made, tmp_path: Path) -> None:
    files = made()
    (tmp_path / "other").mkdir()
    authority = keys.new_authority()
    other = written(tmp_path / "other", authority, keys.new_server_certificate(authority, HOSTS))
    with pytest.raises(CredentialError, match="not the key of"):
        keys.check_server(files.certificate, other.private_key, files.authority)
    with pytest.raises(CredentialError, match="not signed by the authority"):
        keys.check_server(files.certificate, files.private_key, other.authority)
    with pytest.raises(CredentialError, match="holds no certificate"):
        keys.check_server(files.private_key, files.private_key, files.authority)
    with pytest.raises(StorageError, match="cannot read"):
        keys.check_server(tmp_path / "none.pem", files.private_key, files.authority)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(made: Made, mode: int) -> None:
    files = made()
    files.private_key.chmod(mode)
    with pytest.raises(CredentialError, match=f"mode {mode:04o}.*\n.*chmod 600"):
        keys.check_server(files.certificate, files.private_key, files.authority)


def site_file(folder: Path, pair: keys.Pair) -> Path:
    path = folder / "site.key"
    path.touch(mode=0o600)
    path.write_bytes(pair.private)
    return path


def test_a_sites_key_is_one_that_flower_reads(tmp_path: Path) -> None:
    asymmetric = pytest.importorskip("flwr.supercore.primitives.asymmetric")
    pair = keys.new_site_key()
    private = asymmetric.bytes_to_private_key(keys.read_site_key(site_file(tmp_path, pair)))
    public = asymmetric.bytes_to_public_key(pair.public)
    assert asymmetric.uses_nist_ec_curve(public)
    assert asymmetric.verify_signature(public, b"words", asymmetric.sign_message(private, b"words"))
    assert asymmetric.public_key_to_bytes(public) == pair.public == keys.public_half(tmp_path / "site.key")


def test_keys_on_another_curve_are_refused(tmp_path: Path) -> None:
    short = ec.generate_private_key(ec.SECP256R1())
    pair = keys.Pair(keys._private(short), keys._public(short.public_key()))
    (tmp_path / "a.pub").write_bytes(pair.public)
    with pytest.raises(CredentialError, match="P-384"):
        keys.read_site_key(site_file(tmp_path, pair))
    with pytest.raises(CredentialError, match="P-384"):
        keys.read_public_key(tmp_path / "a.pub")


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="holds no public key"):
        keys.read_public_key(site_file(tmp_path, keys.new_site_key()))


def test_a_bad_file_costs_its_own_site_alone(tmp_path: Path) -> None:
    good, shared = keys.new_site_key(), keys.new_site_key()
    (tmp_path / "good.pub").write_bytes(good.public)
    (tmp_path / "broken.pub").write_text("no key")
    (tmp_path / "a copy.pub").write_bytes(keys.new_site_key().public)
    (tmp_path / "one.pub").write_bytes(shared.public)
    # The same key in another spelling.
    (tmp_path / "two.pub").write_bytes(b"\n" + shared.public.replace(b"\n", b"\r\n"))
    (tmp_path / "notes.txt").write_text("not a key, and not called one")
    found, problems = keys.registered_keys(tmp_path)
    assert found == {"good": good.public}
    told = "\n".join(map(str, problems))
    assert len(problems) == 3
    assert "broken.pub holds no public key" in told
    assert "a copy.pub is named after no site" in told
    assert "the sites one and two have one key" in told


def test_a_fingerprint_is_of_the_key_and_not_of_its_spelling() -> None:
    public = keys.new_site_key().public
    assert keys.fingerprint(public) == keys.fingerprint(public.replace(b"\n", b"\r\n"))
    assert keys.fingerprint(public) != keys.fingerprint(keys.new_site_key().public)


def test_openssl_agrees(made: Made, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    files = made()
    check = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", HOSTS[0]]
    result = subprocess.run(
        [*check, "-CAfile", str(files.authority), str(files.certificate)], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip().endswith("OK"), result.stderr


def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "cryptography" / "__init__.py").write_text("raise ImportError('not installed')\n")
    command = [sys.executable, "-m", "fedse", "federation", "init", "--server", "x.org", "--out", str(tmp_path / "f")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tmp_path))
    assert result.returncode == 1
    assert 'pip install "fedse[flower]"' in result.stderr
    assert not (tmp_path / "f").exists()


def test_private_files_are_private_from_their_first_byte_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask: every file that is opened for writing with a key in it is closed to others already."""
    from fedse.deployment import folders
    from fedse.settings import load_config

    seen: dict[str, int] = {}
    opened = os.open

    def watching(path: str | Path, flags: int, mode: int = 0o777, **more: int) -> int:
        descriptor = opened(path, flags, mode, **more)
        if flags & os.O_CREAT:
            seen[Path(path).name] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    monkeypatch.setattr(os, "open", watching)
    before = os.umask(0)
    try:
        made = folders.create(tmp_path / "federation", ["fl.example.org"], load_config("tiny"))
    finally:
        os.umask(before)
    private = {name: mode for name, mode in seen.items() if ".key." in name}
    assert len(private) == 4  # authority, server, two sites; under their temporary names
    assert set(private.values()) == {0o600}
    for path in [made.root, *made.root.rglob("*")]:
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
        elif path.suffix == ".key":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_site_without_a_key_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="there is no key") as told:
        keys.read_site_key(tmp_path / "site.key")
    assert "fedse federation key" in told.value.mend
