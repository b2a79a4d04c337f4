"""What a case is: a sentence of RFC 9113, what a client does, and how it must end."""

from collections.abc import Callable
from dataclasses import dataclass

from wire import Connection


@dataclass(frozen=True)
class Answer:
    """How a case ends."""

    text: str
    demanded: str = ""
    """How the RFC says that it must end, if that differs."""
    why: str = ""
    """The word under which README.md says why we live with that."""

    def instead_of(self, demanded: "Answer", why: str) -> "Answer":
        """A deviation that is known."""
        return Answer(self.text, demanded.text, why)


@dataclass(frozen=True)
class Case:
    """One sentence."""

    section: str
    """Where in RFC 9113 it stands, or another RFC by its name."""
    sentence: str
    expected: Answer
    act: Callable[[Connection], None]
    greets: bool = True
    """Whether settings are exchanged first."""
    only_tls: bool = False

    @property
    def name(self) -> str:
        """As it is printed."""
        return f"{self.section} {self.sentence}"


def connection_error(code: str) -> Answer:
    """GOAWAY with this code, and the connection is closed."""
    return Answer(f"connection error {code}")


def stream_error(code: str) -> Answer:
    """RST_STREAM with this code, and the connection goes on."""
    return Answer(f"stream error {code}")


def status(code: int) -> Answer:
    """A response with this status, and the connection goes on."""
    return Answer(f"status {code}")


ALIVE = Answer("alive")
"""Nothing happens to the stream or the connection."""

CLOSED = Answer("closed")
"""The connection is closed without a word."""

OTHER_SIZE = connection_error("PROTOCOL_ERROR").instead_of(connection_error("FRAME_SIZE_ERROR"), "codes")
"""The frame's size is wrong, and the connection ends with another code."""


def wider(code: str) -> Answer:
    """A stream error with this code is demanded, and the connection ends."""
    return connection_error("PROTOCOL_ERROR").instead_of(stream_error(code), "wider")
