"""The program under test, running, with what it counts."""

import base64
import re
import ssl
import subprocess
import time
from pathlib import Path

import whygate

SETTLED = 10.0
"""Seconds until everything that a client broke off has ended."""

METRICS = {
    "permits": "permits_total",
    "sent": "upstream_requests_total",
    "abandoned": "upstream_abandoned_total",
    "connections": "connections",
    "in_flight": "requests_in_flight",
}


class Gateway:
    """`whygate serve` in front of a backend."""

    def __init__(self, folder: Path, backend: int) -> None:
        self.trust = certificate(folder)
        manifests = folder / "manifests"
        manifests.mkdir()
        text = (Path(__file__).resolve().parent / "manifests.yaml").read_text()
        values = {"BACKEND": str(backend)}
        for name, file in (("CERTIFICATE", "tls.crt"), ("KEY", "tls.key")):
            values[name] = base64.b64encode((folder / file).read_bytes()).decode()
        filled = re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)
        (manifests / "all.yaml").write_text(filled)
        command = [str(whygate.binary(None)), "serve", "--manifests", str(manifests), "--threads=1"]
        self.program = whygate.Program.start(command, folder)

    def tls(self) -> ssl.SSLContext:
        """For clients that speak HTTP/2 over TLS."""
        context = ssl.create_default_context(cafile=str(self.trust))
        context.set_alpn_protocols(["h2"])
        return context

    def settled(self) -> dict[str, int]:
        """What it has counted, once it serves no connection and no request any more."""
        deadline = time.monotonic() + SETTLED
        while True:
            counts = self.counts()
            busy = counts["connections"] or counts["in_flight"]
            if time.monotonic() > deadline or not busy and counts["permits"] == counts["sent"] + counts["abandoned"]:
                return counts
            time.sleep(0.005)

    def counts(self) -> dict[str, int]:
        """What it has counted, by the names here."""
        text = self.program.metrics()
        found = {key: re.search(rf"^whygate_{name} (\d+)$", text, re.MULTILINE) for key, name in METRICS.items()}
        missing = [key for key, value in found.items() if not value]
        if missing:
            raise SystemExit(f"the metrics lack {missing}")
        return {key: int(value[1]) for key, value in found.items()}


def certificate(folder: Path) -> Path:
    """A certificate and its key, for every host of the manifests."""
    subject = ["-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:*.example.com"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(folder / "tls.key")]
    command = ["openssl", "req", "-x509", "-days", "7", *key, *subject, "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "tls.crt"
