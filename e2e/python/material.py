"""What all peers are given alike: a certificate, networks, tokens, and the bodies of responses."""

import base64
import ctypes
import ctypes.util
import hashlib
import json
import subprocess
import time
from dataclasses import dataclass
from functools import cache
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
    signer = RsaKey.new()
    public.write_text(signer.public())
    return Material(folder, certificate, key, pem, down, networks(), signer, public)


def networks() -> list[str]:
    """10,000 networks of which no two can be joined to one; the client's is the last."""
    return [f"10.{number // 256}.{number % 256}.0/25" for number in range(9_999)] + ["127.0.0.0/8"]


@dataclass(frozen=True)
class RsaKey:
    """A private key of 2048 bits, and how to sign with it by libcrypto: Python's own numbers take ten times as long."""

    private: str
    """As PEM."""

    @staticmethod
    def new() -> "RsaKey":
        """Another one for each run."""
        return RsaKey(openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))

    def public(self) -> str:
        """The public half as PEM."""
        return openssl("rsa", "-pubout", stdin=self.private)

    def sign(self, texts: list[bytes]) -> list[bytes]:
        """The signature RS256 of each text."""
        crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
        for name in ("BIO_new_mem_buf", "PEM_read_bio_PrivateKey", "EVP_MD_CTX_new", "EVP_sha256"):
            getattr(crypto, name).restype = ctypes.c_void_p
        pointer, private, signatures = ctypes.c_void_p, self.private.encode(), []
        file = pointer(crypto.BIO_new_mem_buf(private, len(private)))
        key = pointer(crypto.PEM_read_bio_PrivateKey(file, None, None, None))
        for text in texts:
            context, signature = pointer(crypto.EVP_MD_CTX_new()), ctypes.create_string_buffer(256)
            size, length = ctypes.c_size_t(len(signature)), ctypes.c_size_t(len(text))
            begun = crypto.EVP_DigestSignInit(context, None, pointer(crypto.EVP_sha256()), None, key)
            if begun != 1 or crypto.EVP_DigestSign(context, signature, ctypes.byref(size), text, length) != 1:
                raise RuntimeError("libcrypto signs nothing")
            crypto.EVP_MD_CTX_free(context)
            signatures.append(signature.raw)
        return signatures

    def key_set(self) -> str:
        """The public half as a JSON Web Key Set."""
        modulus = openssl("rsa", "-modulus", "-noout", stdin=self.private).strip().partition("=")[2]
        key = {
            "kty": "RSA",
            "kid": "k1",
            "alg": "RS256",
            "use": "sig",
            "n": url64(bytes.fromhex(modulus)),
            "e": "AQAB",
        }
        return json.dumps({"keys": [key]})


@cache
def api_keys(count: int = 100) -> list[str]:
    """Keys as `whygate key new` makes them, the same each time."""
    secrets = [base64.urlsafe_b64encode(hashlib.sha256(str(number).encode()).digest()) for number in range(count)]
    return [f"wg_{number:08}_{secret.decode().rstrip('=')}" for number, secret in enumerate(secrets)]


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
    signatures = key.sign([text.encode() for text in texts])
    return [f"{text}.{url64(signature)}" for text, signature in zip(texts, signatures, strict=True)]


def url64(data: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments: str, stdin: str | None = None) -> str:
    """What the command prints."""
    return subprocess.run(("openssl", *arguments), check=True, capture_output=True, text=True, input=stdin).stdout
