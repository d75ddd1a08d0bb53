# SPDX-License-Identifier: Apache-2.0
"""Certificates for servers that speak TLS: an authority of itest's own and a certificate by it for this machine.

They lie in the cache directory, so that all processes of a run, and later runs, find the same ones: a server is known by
what it is started with. The authority's key is forgotten at once, so it can never vouch for anything else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from itest import naming
from itest.clock import wall
from itest.errors import ConfigError, Unavailable
from itest.tuples import NamedTuple

DAY = 86400
TERM = 30
"""Days after which new ones are made."""
VALID = 90
"""Days that they are valid, so that no run, nor a server that is used again, sees them expire."""

HOSTS = ("localhost", "host.docker.internal")
ADDRESSES = ("127.0.0.1", "::1")
"""What the certificate is for."""

OPENSSL_TIMEOUT = 30.0


class Certificates(NamedTuple):
    """The files, as PEM: the authority's certificate, the server's, and the key to that."""

    authority: Path
    certificate: Path
    key: Path


def local(cache: Path) -> Certificates:
    """The certificates for servers on this machine, made if need be.

    Raises Unavailable where nothing here can make any, ConfigError where there is no place for them.
    """
    directory = cache.absolute() / "certificates"
    term = int(wall() // (TERM * DAY))
    found = _in(directory / str(term))
    if not found.key.is_file():
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make(directory, directory / str(term))
            for old in directory.iterdir():
                if old.name.isdigit() and int(old.name) < term - 1:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise ConfigError(f"certificates for tls=True cannot be kept in {directory}: {error}") from error
    return found


def _in(directory: Path) -> Certificates:
    return Certificates(directory / "authority.pem", directory / "server.pem", directory / "server.key")


def _make(directory: Path, place: Path) -> None:
    """All files or none: others look at the same time."""
    made = Path(tempfile.mkdtemp(dir=directory, prefix="new-"))
    try:
        if importlib.util.find_spec("cryptography") is not None:
            by_package(_in(made))
        elif program := shutil.which("openssl"):
            by_program(_in(made), program)
        else:
            raise Unavailable(
                "nothing here can make certificates for tls=True: install the package cryptography (pip install "
                "cryptography) or the program openssl"
            )
        try:
            os.rename(made, place)
        except OSError:
            if not place.is_dir():  # Else another process was sooner.
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def by_package(files: Certificates) -> None:
    """Make them with the package cryptography."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("itest", "localhost")]
    usage = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    identity = x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key())
    made = []
    for own, name in zip(keys, names, strict=True):
        is_authority = own is keys[0]
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=VALID))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(**{**usage, "key_cert_sign" if is_authority else "digital_signature": True}),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        )
        if not is_authority:
            alternatives = [
                *map(x509.DNSName, HOSTS),
                *(x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES),
            ]
            builder = (
                builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False)
            )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files.authority.write_bytes(made[0])
    files.certificate.write_bytes(made[1])
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


_EXTENSIONS = f"""\
[req]
distinguished_name = name
prompt = no
[name]
CN = itest
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {", ".join([*(f"DNS:{host}" for host in HOSTS), *(f"IP:{address}" for address in ADDRESSES)])}
"""


def by_program(files: Certificates, program: str) -> None:
    """Make them with openssl or LibreSSL."""
    directory = files.key.parent
    (directory / "openssl.cnf").write_text(_EXTENSIONS, encoding="utf-8")
    number = int.from_bytes(os.urandom(8), "big") >> 1
    authority, server, key = (file.name for file in files)
    for command in (
        "ecparam -name prime256v1 -genkey -noout -out authority.key",
        f"ecparam -name prime256v1 -genkey -noout -out {key}",
        f"req -x509 -new -key authority.key -subj /CN=itest -config openssl.cnf -extensions authority -days {VALID} "
        f"-sha256 -out {authority}",
        f"req -new -key {key} -subj /CN=localhost -config openssl.cnf -out server.csr",
        f"x509 -req -in server.csr -CA {authority} -CAkey authority.key -sha256 -set_serial {number} "
        f"-extfile openssl.cnf -extensions server -days {VALID} -out {server}",
    ):
        try:
            done = subprocess.run(
                [program, *command.split()],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=OPENSSL_TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{program} could not make certificates for tls=True: {error}") from error
        if done.returncode:
            raise Unavailable(
                f"{program} could not make certificates for tls=True: `openssl {command.split()[0]}` exited with "
                f"{done.returncode}: {naming.shorten(done.stderr, 300)}"
            )
    files.key.chmod(0o600)
    for name in ("authority.key", "server.csr", "openssl.cnf"):
        (directory / name).unlink()
