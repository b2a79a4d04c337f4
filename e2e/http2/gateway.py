"""The program under test, running, with what it counts."""

import base64
import json
import os
import re
import signal
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BEFORE_READY, SETTLED = 30.0, 10.0
"""Seconds until the program serves, and until everything that a client broke off has ended."""

METRICS = {
    "permits": "permits_total",
    "sent": "upstream_requests_total",
    "abandoned": "upstream_abandoned_total",
    "connections": "connections",
    "in_flight": "requests_in_flight",
}


class Gateway:
    """`whygate serve` on free ports of loopback, in front of a backend."""

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
        ready, self.log = folder / "ready", folder / "log"
        flags = [f"--{name}-listen=127.0.0.1:0" for name in ("http", "https", "admin", "inspect")]
        command = [str(binary()), "serve", "--manifests", str(manifests), "--threads", "1", "--ready-file", str(ready)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        told = self.until_ready(ready)
        self.http, self.https, self.admin = (port(told[name]) for name in ("http", "https", "admin"))

    def until_ready(self, ready: Path) -> dict:
        """Where it listens."""
        deadline = time.monotonic() + BEFORE_READY
        while True:
            try:
                return json.loads(ready.read_text())
            except (OSError, ValueError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"whygate does not get ready; it said:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.02)

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
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = {key: re.search(rf"^whygate_{name} (\d+)$", text, re.MULTILINE) for key, name in METRICS.items()}
        missing = [key for key, value in found.items() if not value]
        if missing:
            raise SystemExit(f"the metrics lack {missing}")
        return {key: int(value[1]) for key, value in found.items()}

    def stop(self) -> None:
        """By its id; it is killed if it does not go in ten seconds."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def port(addresses: str | list[str]) -> int:
    """Of one address, or the first of several."""
    return int((addresses if isinstance(addresses, str) else addresses[0]).rpartition(":")[2])


def binary() -> Path:
    """What `WHYGATE_BINARY` names, or the program as the tests build it."""
    if given := os.environ.get("WHYGATE_BINARY"):
        return Path(given)
    command = [
        "cargo",
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--bin",
        "whygate",
        "--message-format",
        "json-render-diagnostics",
    ]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    for line in said.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "whygate" and message.get("executable"):
            return Path(message["executable"])
    raise SystemExit("cargo built no program named whygate")


def certificate(folder: Path) -> Path:
    """A certificate and its key, for every host of the manifests."""
    subject = ["-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:*.example.com"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(folder / "tls.key")]
    command = ["openssl", "req", "-x509", "-days", "7", *key, *subject, "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "tls.crt"
