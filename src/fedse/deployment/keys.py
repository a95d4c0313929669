"""Keys and certificates: an authority of one's own, the server's certificate, and the sites' keys.

Sites trust the authority's certificate and no other.  The server knows each site by its public key.  Formats are those
that flwr 1.42 reads: PEM; PKCS #8 without a password for private keys, SubjectPublicKeyInfo for public ones; P-384 for
sites (a NIST curve, signed with ECDSA).  Certificates follow RFC 5280 so that strict verifiers take them too.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedse.deployment.files import site_name
from fedse.errors import CredentialError, FedseError, boundary
from fedse.storage import storage_errors

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as _cause:
    raise CredentialError(
        f"keys and certificates need the library cryptography: {_cause}", 'install it: pip install "fedse[flower]"'
    ) from _cause

AUTHORITY_DAYS = 3653
SERVER_DAYS = 365
#: A certificate that lasts no longer than this is to be renewed.
RENEW_DAYS = 30
#: What only the owner may read, and the folders around it.
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_CLOCKS = timedelta(days=1)  # clocks differ, so certificates begin a day back


@dataclass(frozen=True)
class Pair:
    """A private key, and what is public of it: the public key, or a certificate of it.  Both are PEM."""

    private: bytes
    public: bytes


def new_authority(*, now: datetime | None = None) -> Pair:
    """A certificate authority that signs server certificates only, no further authorities; good for ten years."""
    key = ec.generate_private_key(ec.SECP384R1())
    # A name of its own, so that two federations' authorities are not taken for each other.
    name = _name(f"fedse authority {x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]}")
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Pair(_private(key), _pem(builder.sign(key, hashes.SHA384())))


def new_server_certificate(
    authority: Pair, hosts: Sequence[str], *, days: int = SERVER_DAYS, now: datetime | None = None
) -> Pair:
    """A key and a certificate for a server, signed by an authority.

    Args:
        authority: private key and certificate.
        hosts: all names and IP addresses that sites may reach the server by; nothing is added to them.
        days: how long it is good for, from now on.
        now: default: the present.

    Raises:
        CredentialError: if there is no host, one is neither a name nor an address, or the authority is damaged.
    """
    if not hosts:
        raise CredentialError("a server certificate needs a host name or an address", "name one")
    with boundary(CredentialError, "cannot read the authority's key", "restore authority/ from a copy"):
        signer = serialization.load_pem_private_key(authority.private, None)
        issuer = x509.load_pem_x509_certificate(authority.public)
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or signer.public_key() != issuer.public_key():
        raise CredentialError("the authority's key does not fit its certificate", "restore authority/ from a copy")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_name("fedse server"), issuer.subject, key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return Pair(_private(key), _pem(builder.sign(signer, hashes.SHA384())))


def new_site_key() -> Pair:
    """A key by which a site proves its name."""
    key = ec.generate_private_key(ec.SECP384R1())
    return Pair(_private(key), _public(key.public_key()))


def read_site_key(path: Path) -> bytes:
    """A site's private key, as PEM.

    Raises:
        CredentialError: if it is not there, others can read it, or it is no such key.
        StorageError: if it cannot be read.
    """
    if not path.exists():
        raise CredentialError(f"there is no key {path}", "make one with: fedse federation key")
    check_private(path)
    _site_key(path)
    return _read(path)


def public_half(path: Path) -> bytes:
    """The public key of a site's private one, as PEM; errors as of :func:`read_site_key`."""
    return _public(_site_key(path).public_key())


def read_public_key(path: Path) -> bytes:
    """A site's public key, as PEM in its one spelling.

    Raises:
        CredentialError: if it is no public key on the curve P-384.
        StorageError: if it cannot be read.
    """
    with boundary(CredentialError, f"{path} holds no public key", "it begins with -----BEGIN PUBLIC KEY-----"):
        key = serialization.load_pem_public_key(_read(path))
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise CredentialError(f"{path} is no key on the curve P-384", "make one with: fedse federation key")
    return _public(key)


def registered_keys(folder: Path) -> tuple[dict[str, bytes], list[CredentialError]]:
    """The sites that a server takes messages from.

    A bad file costs its own site alone, so that a key that is taken away is gone whatever else is wrong.

    Args:
        folder: with <site>.pub for each site.

    Returns:
        Site → its public key as PEM, in the order of the names; and what is wrong with the files that are left out: no
        such key, no name that a site can have, or the key of another site too.

    Raises:
        StorageError: if the folder cannot be read.
    """
    with storage_errors("read", folder):
        files = sorted(path for path in folder.iterdir() if path.suffix == ".pub" and not path.name.startswith("."))
    keys: dict[str, bytes] = {}
    problems: list[CredentialError] = []
    for path in files:
        try:
            keys[site_name(path.stem)] = read_public_key(path)
        except ValueError as cause:
            problems.append(CredentialError(f"{path} is named after no site: {cause}", "name it <site>.pub"))
        except FedseError as error:
            problems.append(CredentialError(error.what, error.mend))
    for key in {key for key in keys.values() if [*keys.values()].count(key) > 1}:
        owners = [name for name, own in keys.items() if own == key]
        problems.append(CredentialError(f"the sites {' and '.join(owners)} have one key", "let each make its own"))
        keys = {name: own for name, own in keys.items() if own != key}
    return keys, problems


def fingerprint(public: bytes) -> str:
    """Half of the SHA-256 of a public key (PEM), for people to compare: eight groups of four hexadecimal digits."""
    return _digest(serialization.load_pem_public_key(public))


def certificate_fingerprint(path: Path) -> str:
    """The fingerprint of a certificate's public key."""
    return _digest(_certificate(path).public_key())


def certificate_hosts(path: Path) -> tuple[str, ...]:
    """The names and addresses that a server certificate is for, in its order."""
    try:
        names = _certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def days_left(path: Path, *, now: datetime | None = None) -> float:
    """Days until a certificate expires; negative once it has.

    Raises:
        CredentialError: if the file is no certificate.
        StorageError: if it cannot be read.
    """
    return (_certificate(path).not_valid_after_utc - (now or datetime.now(UTC))) / timedelta(days=1)


def check_server(certificate: Path, private_key: Path, authority: Path, *, now: datetime | None = None) -> float:
    """Check what a server begins with.

    Returns:
        Days until it has to stop; with fewer than :data:`RENEW_DAYS` the operator should be told.

    Raises:
        CredentialError: if the certificate is expired, not yet good, of another authority or of another key, or if
            others can read the key.
        StorageError: if a file cannot be read.
    """
    check_private(private_key)
    found, issuer = _certificate(certificate), _certificate(authority)
    renew = "make a new one with: fedse federation rotate"
    with boundary(CredentialError, f"{private_key} holds no private key", renew):
        key = serialization.load_pem_private_key(_read(private_key), None)
    if key.public_key() != found.public_key():
        raise CredentialError(f"{private_key} is not the key of {certificate}", renew)
    try:
        found.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as cause:
        raise CredentialError(f"{certificate} is not signed by the authority {authority}", renew) from cause
    check_period(certificate, renew, now=now)
    check_period(authority, "begin a new federation: fedse federation init", now=now)
    return min(days_left(path, now=now) for path in (certificate, authority))


def check_period(certificate: Path, mend: str, *, now: datetime | None = None) -> None:
    """Check that a certificate is good now.

    Raises:
        CredentialError: if it has expired, with ``mend``; or is not good yet, as by a clock that is wrong.
    """
    found, now = _certificate(certificate), now or datetime.now(UTC)
    if now > found.not_valid_after_utc:
        raise CredentialError(f"{certificate} expired on {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", mend)
    if now < found.not_valid_before_utc:
        raise CredentialError(
            f"{certificate} is good from {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; the clock here shows "
            f"{now:%Y-%m-%d %H:%M} UTC",
            "set this machine's clock (timedatectl shows it)",
        )


def check_private(path: Path) -> None:
    """Check that nobody but its owner can read a file, or change it.

    Raises:
        CredentialError: if others can.
        StorageError: if the file is not there.
    """
    with storage_errors("read", path):
        mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise CredentialError(f"{path} has mode {mode:04o}, so others can use the key", f"chmod 600 {path}")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, now: datetime | None
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise CredentialError(
                f"{host!r} is neither a host name nor an IP address", "write it as in fl.example.org or 192.0.2.7"
            ) from None
    return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _digest(key: CertificatePublicKeyTypes | PublicKeyTypes) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = hashlib.sha256(der).hexdigest()[:32]
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _read(path: Path) -> bytes:
    with storage_errors("read", path):
        return path.read_bytes()


def _site_key(path: Path) -> ec.EllipticCurvePrivateKey:
    with boundary(CredentialError, f"{path} holds no private key", "restore it from a copy, or make a new one"):
        key = serialization.load_pem_private_key(_read(path), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise CredentialError(f"{path} is no key on the curve P-384", "make one with: fedse federation key")
    return key


def _certificate(path: Path) -> x509.Certificate:
    with boundary(CredentialError, f"{path} holds no certificate", "it begins with -----BEGIN CERTIFICATE-----"):
        return x509.load_pem_x509_certificate(_read(path))
