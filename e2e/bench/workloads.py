"""What is measured, in the order of importance, and the targets that Whygate has set itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from load import Load
from peers import Shape

PEERS = ("whygate", "nginx", "haproxy", "envoy")
Medians = dict[tuple[str, str], float]
"""The median by the names of a proxy and a variant."""


@dataclass(frozen=True)
class Target:
    """A bound, and how to get its figure from the medians; a figure without one of them is none."""

    words: str
    limit: float
    figure: Callable[[Medians], float]

    def value(self, medians: Medians) -> float | None:
        """What was measured."""
        try:
            return self.figure(medians)
        except (KeyError, ZeroDivisionError):
            return None


def versus(peer: str, limit: float, variant: str) -> Target:
    """Ours divided by a peer's."""
    return Target(f"≤ {limit:g} × {peer}", limit, lambda all: all["whygate", variant] / all[peer, variant])


def itself(limit: float, variant: str, base: str) -> Target:
    """Ours divided by ours without what is measured."""
    return Target(f"{variant} ≤ {limit:g} × {base}", limit, lambda all: all["whygate", variant] / all["whygate", base])


def extra(limit: float, unit: str, variant: str, base: str) -> Target:
    """What it costs us more than without."""
    return Target(
        f"{variant} ≤ {base} + {limit:g} {unit}", limit, lambda all: all["whygate", variant] - all["whygate", base]
    )


def at_most(limit: float, unit: str, variant: str) -> Target:
    """Ours as it is."""
    return Target(f"{variant} ≤ {limit:g} {unit}", limit, lambda all: all["whygate", variant])


def extra_versus(peer: str, limit: float, variant: str, base: str) -> Target:
    """What it costs us more than without, divided by what it costs a peer more."""
    return Target(
        f"{variant}, extra ≤ {limit:g} × {peer}'s",
        limit,
        lambda all: (all["whygate", variant] - all["whygate", base]) / (all[peer, variant] - all[peer, base]),
    )


@dataclass(frozen=True)
class Variant:
    """One thing that every peer does in every round."""

    load: Load
    shape: Shape = Shape()
    swaps: Literal["", "before", "during"] = ""
    """When Whygate's configuration changes, again and again."""

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.load.label


@dataclass(frozen=True)
class Workload:
    """A row, or several, of the table."""

    name: str
    title: str
    variants: tuple[Variant, ...]
    targets: tuple[Target, ...]
    kind: Literal["cpu", "rate", "swap", "websockets", "idle", "resident", "start", "change"] = "cpu"
    unit: str = "µs"
    peers: tuple[str, ...] = PEERS
    rounds: int = 100
    """At most: what hardly differs from round to round, or takes long, needs few."""
    note: str = ""


def one(load: Load) -> tuple[Variant, ...]:
    """A single variant."""
    return (Variant(load),)


BODIES = (*PEERS, "nginx-tuned")
DOWN = Load("10 MiB", path="/p3/down", requests="down", body=10 * 1024 * 1024, at_once=4)
UP = Load("10 MiB", path="/p3/up", requests="up", body=None, at_once=4, arrivals=2)

WORKLOADS = (
    Workload(
        "keepalive",
        "HTTP/1.1 keep-alive, 1 KiB",
        one(Load("1 KiB")),
        (versus("nginx", 1.10, "1 KiB"), versus("envoy", 0.55, "1 KiB")),
    ),
    Workload(
        "tls",
        "TLS keep-alive, 1 KiB",
        one(Load("1 KiB over TLS", tls=True)),
        (versus("nginx", 0.85, "1 KiB over TLS"), versus("envoy", 0.55, "1 KiB over TLS")),
    ),
    Workload(
        "refusal",
        "Refusal by address on a kept connection",
        one(Load("403", host="refused.example.com", requests="refused", status=403, body=None, arrivals=0)),
        (versus("nginx", 1.3, "403"),),
        note="Whygate counts each refusal and explains it; the others just refuse.",
    ),
    Workload(
        "handshake",
        "TLS, a full handshake for each request",
        one(Load("handshake", tool="fresh", tls=True, requests="close")),
        (versus("nginx", 0.45, "handshake"),),
    ),
    Workload(
        "handshake-refusal",
        "TLS, a full handshake for each refusal by address",
        one(
            Load(
                "handshake, 403",
                tool="fresh",
                tls=True,
                host="refused.example.com",
                requests="refused-close",
                status=403,
                body=None,
                arrivals=0,
            )
        ),
        (versus("nginx", 0.35, "handshake, 403"),),
    ),
    Workload(
        "http2",
        "HTTP/2 over TLS, 1 KiB, 16 connections × 8 streams",
        one(Load("1 KiB over HTTP/2", tool="h2load", tls=True)),
        (versus("nginx", 1.0, "1 KiB over HTTP/2"), versus("envoy", 0.7, "1 KiB over HTTP/2")),
    ),
    Workload(
        "grpc",
        "gRPC over TLS, unary calls, 16 connections × 8 streams; HTTP/2 without TLS to the upstream",
        one(
            Load(
                "call",
                tool="h2load",
                tls=True,
                host="grpc.example.com",
                requests="message",
                message=True,
            )
        ),
        (versus("envoy", 0.7, "call"),),
    ),
    Workload(
        "hosts",
        "1,000 hosts × 5 paths, all of them in turn, against 1 host",
        (Variant(Load("1 host"), Shape(hosts=1)), Variant(Load("1,000 hosts", requests="hosts"))),
        (itself(1.05, "1,000 hosts", "1 host"),),
    ),
    Workload(
        "networks",
        "10,000 networks (CIDRs) against an open route",
        (Variant(Load("open")), Variant(Load("10,000 networks", host="networks.example.com", requests="networks"))),
        (extra(0.3, "µs", "10,000 networks", "open"),),
    ),
    Workload(
        "download",
        "10 MiB from the upstream",
        (Variant(DOWN),),
        (versus("nginx", 0.5, "10 MiB"), versus("nginx-tuned", 1.1, "10 MiB")),
        peers=BODIES,
    ),
    Workload(
        "upload",
        "10 MiB to the upstream",
        (Variant(UP),),
        (versus("nginx", 0.5, "10 MiB"), versus("nginx-tuned", 1.1, "10 MiB")),
        peers=BODIES,
    ),
    Workload(
        "token",
        "JWT RS256, tokens in turn that were sent before, against an open route",
        (
            Variant(Load("open route", requests="token-open")),
            Variant(Load("1,000 tokens", host="tokens.example.com", requests="token-1000")),
            Variant(Load("10,000 tokens", host="tokens.example.com", requests="token-10000")),
        ),
        (itself(1.08, "1,000 tokens", "open route"), itself(1.08, "10,000 tokens", "open route")),
        peers=("whygate",),
        note="Debian's nginx has no such check; the open route gets the same requests.",
    ),
    Workload(
        "new-token",
        "JWT RS256, every token new, against an open route",
        (
            Variant(Load("open route", requests="token-new-open", once=True, warm_up="token-open")),
            Variant(
                Load(
                    "new tokens",
                    host="tokens.example.com",
                    requests="token-new",
                    once=True,
                    warm_up="token-10000",
                    forged="token-forged",
                )
            ),
        ),
        (extra_versus("haproxy", 0.7, "new tokens", "open route"),),
        peers=("whygate", "haproxy"),
        note="A turn ends when each of 10,000 tokens has been sent once, to a proxy that has just been started and warmed up with "
        "10,000 others. Both check signature, issuer, audience, expiry and scope. Debian's nginx has no such check.",
    ),
    Workload(
        "key",
        "API key of 100 subscriptions in turn, against an open route",
        (
            Variant(Load("open route", requests="keys-open")),
            Variant(Load("100 keys", host="keys.example.com", requests="keys", forged="keys-forged")),
        ),
        (extra(2, "µs", "100 keys", "open route"),),
        peers=("whygate",),
        note="The others have no such check; the open route gets the same requests.",
    ),
    Workload(
        "rate",
        "Latency (p99) at a constant rate of 2,500 requests/s, 1 KiB",
        (
            Variant(Load("plain", tool="steady", rate=2_500)),
            Variant(Load("TLS", tool="steady", rate=2_500, tls=True)),
        ),
        (),
        kind="rate",
        unit="ms",
        rounds=3,
        note="From the moment at which a request was due to the end of its answer, so that what waits behind a late answer has "
        "waited, too. How late the generator was (p99) is in all of it: differences smaller than that are none.",
    ),
    Workload(
        "idle",
        "Memory for each idle connection after one request",
        (
            Variant(Load("plain", at_once=2000), Shape(hosts=1)),
            Variant(Load("TLS", tls=True, at_once=1000), Shape(hosts=1)),
        ),
        (at_most(12, "KiB", "plain"), at_most(24, "KiB", "TLS")),
        kind="idle",
        rounds=3,
        unit="KiB",
    ),
    Workload(
        "memory",
        "Memory of the process after its start, 1,000 hosts × 5 paths",
        one(Load("started")),
        (at_most(40, "MiB", "started"),),
        kind="resident",
        rounds=3,
        unit="MiB",
    ),
    Workload(
        "start",
        "From the start of the process to its first right answer",
        (Variant(Load("1,000 routes"), Shape(hosts=200)), Variant(Load("5,000 routes"), Shape(hosts=1000))),
        (at_most(1_000, "ms", "1,000 routes"),),
        kind="start",
        unit="ms",
        rounds=3,
        note="Ours has to say that it is ready, too. Everybody reads 10,000 networks besides the routes.",
    ),
    Workload(
        "swap",
        "The slowest request of each second, 1,000 requests/s on one connection, 10,000 hosts × 5 paths",
        (
            Variant(Load("quiet", tool="steady", rate=1_000, at_once=1), Shape(hosts=10_000)),
            Variant(Load("swaps", tool="steady", rate=1_000, at_once=1), Shape(hosts=10_000), swaps="during"),
        ),
        (extra(1, "ms", "swaps", "quiet"),),
        kind="swap",
        unit="ms",
        peers=("whygate",),
        rounds=3,
        note="`swaps`: a host changes every second. The figure is the slowest "
        "request of each second, in the median of seconds. Reading and compiling share the one core with the data thread here. "
        "The slowest of all is as much the machine's as ours: compare it with `quiet`.",
    ),
    Workload(
        "websockets",
        "Memory of the process with 1,000 WebSockets, 10,000 routes",
        (
            Variant(Load("no change"), Shape(hosts=2_000)),
            Variant(Load("opened after changes"), Shape(hosts=2_000), swaps="before"),
            Variant(Load("opened between changes"), Shape(hosts=2_000), swaps="during"),
        ),
        (itself(1.1, "opened between changes", "no change"),),
        kind="websockets",
        unit="MiB",
        peers=("whygate",),
        rounds=1,
        note="Each change is waited for until it is a snapshot that the data thread has; after 70 s all WebSockets are open. "
        "What is changed for 20 s before any of them is opened tells what changes alone leave behind. All answer a ping in the end.",
    ),
    Workload(
        "change",
        "A host more, under traffic: until its routes are in force",
        (
            Variant(Load("1,000 hosts"), Shape(reloads=True)),
            Variant(Load("10,000 hosts"), Shape(hosts=10_000, reloads=True)),
        ),
        (at_most(150, "ms", "1,000 hosts"), at_most(300, "ms", "10,000 hosts")),
        kind="change",
        unit="ms",
        peers=("whygate", "nginx", "haproxy"),
        note="Whygate sees the file; nginx and HAProxy are told by a signal to read theirs again. Envoy would need a server of its protocol.",
    ),
)
