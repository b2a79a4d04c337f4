"""What changes under the traffic: manifests in a directory, or objects on an API server."""

import base64
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from typing import Protocol
from urllib.parse import urlparse

Object = dict[str, object]
ROUTES = 20
NAMESPACE = "soak"
DEFINITIONS = Path(__file__).resolve().parent.parent.parent / "crds" / "yaml"
ENDPOINTS = ("198.18.60.1", "198.18.60.2") if "TEST_KUBECONFIG" in os.environ else ("127.0.0.2", "127.0.0.3")
"""An API server takes no endpoints on loopback; the network in which the tests have theirs has these addresses."""

PLURALS = {
    "Namespace": "/api/v1/namespaces",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "Secret": f"/api/v1/namespaces/{NAMESPACE}/secrets",
    "EndpointSlice": f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
    "Ingress": f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses",
    "AccessPolicy": f"/apis/whygate.dev/v1alpha1/namespaces/{NAMESPACE}/accesspolicies",
}
VERSIONS = {
    "EndpointSlice": "discovery.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "AccessPolicy": "whygate.dev/v1alpha1",
}


def thing(kind: str, name: str, body: Object, labels: dict[str, str] | None = None) -> Object:
    """An object of the soak's namespace."""
    metadata = {"name": name, "labels": labels or {}} | ({} if kind == "Namespace" else {"namespace": NAMESPACE})
    return {"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata, **body}


def service(name: str) -> Object:
    """With port 80."""
    return thing("Service", name, {"spec": {"ports": [{"name": "http", "port": 80}]}})


def slice_of(name: str, port: int, generation: int) -> Object:
    """Its endpoints: one, the other, or both; all of them serve at all times."""
    one, other = ENDPOINTS
    addresses = [[one], [other], [one, other]][generation % 3]
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
    body = {"addressType": "IPv4", "ports": [{"name": "http", "port": port}], "endpoints": endpoints}
    return thing("EndpointSlice", name, body, {"kubernetes.io/service-name": name})


def ingress(name: str, backend: str, paths: tuple[str, ...] = ("/",), secret: str | None = None) -> Object:
    """One host, `NAME.test`."""
    target = {"service": {"name": backend, "port": {"number": 80}}}
    rules = [{"host": f"{name}.test", "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": target} for path in paths]}}]
    tls = {"tls": [{"hosts": [f"{name}.test"], "secretName": secret}]} if secret else {}
    return thing("Ingress", name, {"spec": {"ingressClassName": "whygate", "rules": rules, **tls}})


def policy(name: str, require: Object, **more: object) -> Object:
    """With one rule, on the Ingress of its name."""
    target = {"group": "networking.k8s.io", "kind": "Ingress", "name": name}
    return thing("AccessPolicy", name, {"spec": {"targetRefs": [target], "require": [{"name": "only", **require}], **more}})


def beginning(port: int, certificate: bytes, key: bytes, key_set: str) -> list[Object]:
    """Everything as it stands before the first change."""
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    made = [thing("Namespace", NAMESPACE, {}), thing("Secret", "certificate", {"type": "kubernetes.io/tls", "data": data})]
    for number in range(ROUTES):
        made += [service(f"up-{number}"), slice_of(f"up-{number}", port, 2)]
        made += [ingress(f"steady-{number}", f"up-{number}"), *swung(number, 0)]
    made += [ingress("secure", "up-0", secret="certificate"), ingress("denied", "up-0"), ingress("token", "up-0")]
    made += [policy("denied", {"ip": {"cidrs": ["192.0.2.0/24"]}})]
    provider = {"name": "login", "issuer": "https://id.example.com", "audiences": ["shop-api"], "jwks": {"inline": key_set}}
    return [*made, policy("token", {"jwt": {"provider": "login"}}, jwtProviders=[provider])]


def swung(number: int, generation: int) -> list[Object]:
    """A route with a policy that admits everybody or nobody, and more or fewer paths."""
    network = ["127.0.0.0/8", "192.0.2.0/24"][generation % 2]
    paths = ("/", "/more")[: 1 + generation // 2 % 2]
    return [ingress(f"shop-{number}", f"up-{number}", paths), policy(f"shop-{number}", {"ip": {"cidrs": [network]}})]


class Source(Protocol):
    """Where the proxy reads from."""

    def put(self, made: Object) -> None:
        """Creates or replaces an object."""


@dataclass
class Directory:
    """A file for each object."""

    folder: Path

    def put(self, made: Object) -> None:
        """Whole: half a file would be a manifest of its own."""
        name = f"{made['kind']}-{made['metadata']['name']}.yaml".lower()  # type: ignore[index]
        part = self.folder / f".{name}-{threading.get_ident()}"
        part.write_text(json.dumps(made))
        part.rename(self.folder / name)


def kubectl(*arguments: str) -> str:
    """What it prints."""
    command = [os.environ["KUBECTL"], "--kubeconfig", os.environ["TEST_KUBECONFIG"], *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@dataclass
class ApiServer:
    """A real one, by the kubeconfig in `TEST_KUBECONFIG`; a connection for each thread."""

    connections: threading.local = field(default_factory=threading.local)
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        kubectl("apply", "--server-side", "--filename", str(DEFINITIONS))
        kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s")
        config = json.loads(kubectl("config", "view", "--raw", "--output=json"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.address, self.context = urlparse(cluster["server"]), ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.fields = {"Content-Type": "application/json"}
        if "token" in user:
            self.fields["Authorization"] = f"Bearer {user['token']}"
        if "client-certificate-data" in user or "client-certificate" in user:
            with tempfile.TemporaryDirectory() as folder:
                files = [self.file(user, name, Path(folder)) for name in ("client-certificate", "client-key")]
                self.context.load_cert_chain(*files)

    @staticmethod
    def file(user: dict[str, str], name: str, folder: Path) -> str:
        """What a kubeconfig holds in a file, or in itself."""
        if name in user:
            return user[name]
        (folder / name).write_bytes(base64.b64decode(user[f"{name}-data"]))
        return str(folder / name)

    def put(self, made: Object) -> None:
        """By a merge patch once it is there; lists are replaced whole."""
        collection, name = PLURALS[str(made["kind"])], made["metadata"]["name"]  # type: ignore[index]
        path = f"{collection}/{name}"
        if path in self.known:
            self.call("PATCH", path, made, {"Content-Type": "application/merge-patch+json"})
        else:
            self.call("POST", collection, made, {})
            self.known.add(path)

    def call(self, method: str, path: str, made: Object, fields: dict[str, str]) -> None:
        """One request; anything but success is an error."""
        connection = getattr(self.connections, "made", None)
        if connection is None:
            connection = HTTPSConnection(self.address.hostname or "", self.address.port, context=self.context, timeout=30)
            self.connections.made = connection
        connection.request(method, path, json.dumps(made), {**self.fields, **fields})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")


class Changer:
    """Makes changes at a constant rate in a thread, whatever each takes."""

    def __init__(self, rate: float, change: "object") -> None:
        self.rate, self.change, self.count, self.words = rate, change, 0, ""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Until the end."""
        begun = time.monotonic()
        while not self.ended.wait(max(0.0, begun + self.count / self.rate - time.monotonic())):
            try:
                self.change(self.count)  # type: ignore[operator]
            except (OSError, RuntimeError) as error:
                self.words = str(error)
            self.count += 1

    def stop(self) -> None:
        """No change comes after it."""
        self.ended.set()
        self.thread.join()


def of_manifests(source: Source) -> Changer:
    """Ten a second: a route or its policy."""

    def change(count: int) -> None:
        number, generation = count // 2 % ROUTES, 1 + count // (2 * ROUTES)
        source.put(swung(number, generation)[count % 2])

    return Changer(10, change)


def of_endpoints(source: Source, port: int) -> list[Changer]:
    """A hundred a second, by ten that share them, because an API server takes a while for each."""

    def share(part: int) -> Changer:
        return Changer(10, lambda count: source.put(slice_of(f"up-{10 * (count % 2) + part}", port, count // 2)))

    return [share(part) for part in range(10)]
