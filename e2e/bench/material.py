"""What all peers are given alike: a certificate, networks, tokens, and the bodies of responses."""

import base64
import hashlib
import json
import re
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

KIB = "x" * 1024
"""The body of most responses."""

LARGE = 10 * 1024 * 1024
"""Bytes of a large body."""

TOKENS = 10_000
"""Tokens that are alive at once: as many as a data thread of Whygate remembers."""


@dataclass(frozen=True)
class Material:
    """Files and texts that templates of configurations name."""

    folder: Path
    certificate: Path
    key: Path
    pem: Path
    down: Path
    networks: list[str]
    signer: "RsaKey"
    """Of tokens."""
    public: Path
    """Its public half as PEM."""


def make(folder: Path) -> Material:
    """Writes the files below `folder`; the certificate is P-256, for every host of the benchmark."""
    certificate, key, pem, down = (folder / name for name in ("tls.crt", "tls.key", "tls.pem", "down"))
    openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "7",
        "-subj",
        "/CN=example.com",
        "-addext",
        "subjectAltName=DNS:*.example.com",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    )
    pem.write_text(certificate.read_text() + key.read_text())
    down.write_bytes(b"x" * LARGE)
    public = folder / "tokens.pem"
    private = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    public.write_text(openssl("rsa", "-pubout", stdin=private))
    return Material(folder, certificate, key, pem, down, networks(), RsaKey.of(private), public)


def networks() -> list[str]:
    """10,000 networks of which no two can be joined to one; the client's is the last."""
    return [f"10.{number // 256}.{number % 256}.0/25" for number in range(9_999)] + ["127.0.0.0/8"]


@dataclass(frozen=True)
class RsaKey:
    """A private key in numbers, as signing needs them (RFC 8017, section 5.1.2)."""

    modulus: int
    prime1: int
    prime2: int
    exponent1: int
    exponent2: int
    coefficient: int

    @staticmethod
    def of(private: str) -> "RsaKey":
        """A key of 2048 bits in PEM."""
        text = openssl("rsa", "-text", "-noout", stdin=private)
        found = dict(re.findall(r"^(\w+):\n((?:    [0-9a-f:]+\n)+)", text, re.MULTILINE))
        number = {name: int(re.sub(r"[\s:]", "", digits), 16) for name, digits in found.items()}
        return RsaKey(
            *(number[name] for name in ("modulus", "prime1", "prime2", "exponent1", "exponent2", "coefficient"))
        )

    def sign(self, text: bytes) -> bytes:
        """The signature RS256 of a text."""
        size = 256
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(text).digest()
        padded = int.from_bytes(b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest, "big")
        one, two = pow(padded, self.exponent1, self.prime1), pow(padded, self.exponent2, self.prime2)
        return (two + self.prime2 * ((one - two) * self.coefficient % self.prime1)).to_bytes(size, "big")

    def key_set(self) -> str:
        """The public half as a JSON Web Key Set."""
        key = {
            "kty": "RSA",
            "kid": "k1",
            "alg": "RS256",
            "use": "sig",
            "n": url64(self.modulus.to_bytes(256, "big")),
            "e": "AQAB",
        }
        return json.dumps({"keys": [key]})


def tokens(key: RsaKey, count: int = 2 * TOKENS) -> list[str]:
    """Tokens of as many subjects, valid for a day; half are for turns in which each is new. Signing takes a while."""
    now = int(time.time())
    header = url64(json.dumps({"alg": "RS256", "kid": "k1", "typ": "JWT"}).encode())
    claims = {
        "iss": "https://id.example.com",
        "aud": "shop-api",
        "scope": "orders.read profile",
        "iat": now,
        "exp": now + 86_400,
    }
    texts = [f"{header}.{url64(json.dumps({**claims, 'sub': f'user-{number}'}).encode())}" for number in range(count)]
    with ProcessPoolExecutor() as pool:
        signatures = list(pool.map(key.sign, [text.encode() for text in texts], chunksize=100))
    return [f"{text}.{url64(signature)}" for text, signature in zip(texts, signatures, strict=True)]


def url64(data: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments: str, stdin: str | None = None) -> str:
    """What the command prints."""
    return subprocess.run(("openssl", *arguments), check=True, capture_output=True, text=True, input=stdin).stdout
