"""What one function hands to the next: a transaction that goes on, or commits that are to be seen."""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from aft import ids
from aft._wire import aft_pb2 as wire
from aft.errors import InvalidRequest

__all__ = ["Token", "Tokens"]

COMMITS_MAX = 32
"""How many commits a token names. Of more, the earliest are left out: nodes tell each other of commits
within a fraction of a second, so those have long arrived wherever the store can be reached."""

_VERSION = b"\x01"
_LENGTH = struct.Struct(">H")


@dataclass(frozen=True, repr=False)
class Token:
    """Hand it on unchanged, by whatever way functions pass their results.

    It is immutable and hashable, and can be pickled. ``str(token)`` is safe in URLs and JSON,
    ``bytes(token)`` is shorter; ``Token.parse`` reads both.
    """

    attempt: str = ""
    """The transaction that goes on; empty if the token names commits only."""

    node: str = ""
    """The node where that transaction ran."""

    commits: tuple[bytes, ...] = ()
    """The session: commits that whoever goes on reads, or newer ones. Opaque."""

    def __post_init__(self) -> None:
        if len(self.commits) > COMMITS_MAX:
            object.__setattr__(self, "commits", self.commits[-COMMITS_MAX:])

    @classmethod
    def parse(cls, given: str | bytes) -> Token:
        """Read either form; raises ``InvalidRequest`` if it is no token."""
        try:
            text = given.encode("ascii") if isinstance(given, str) else given
            body = text if text.startswith(_VERSION) else _from_base64(text)
            attempt, node, *commits = _fields(body)
            token = cls(attempt.decode("ascii"), node.decode("ascii"), tuple(commits))
            token._check()
        except (ValueError, DecodeError, InvalidRequest):
            raise InvalidRequest(
                f"{given!r} is not a token: hand on what `txn.token` gave, unchanged"
            ) from None
        return token

    @classmethod
    def merge(cls, tokens: Tokens) -> Token:
        """Name all commits that the given tokens name."""
        given = as_tuple(tokens)
        for token in given:
            if token.attempt:
                raise InvalidRequest(
                    "a transaction that still runs cannot be merged into a session: join() its tokens",
                    token.attempt,
                )
        each = itertools.chain.from_iterable(token.commits for token in given)
        return cls(commits=tuple(dict.fromkeys(each)))

    def __or__(self, other: Token) -> Token:
        return Token.merge((self, other))

    def __bytes__(self) -> bytes:
        fields = (self.attempt.encode(), self.node.encode(), *self.commits)
        return _VERSION + b"".join(_LENGTH.pack(len(field)) + field for field in fields)

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(bytes(self)).decode().rstrip("=")

    def __repr__(self) -> str:
        names = [wire.CommitToken.FromString(commit).id for commit in self.commits]
        running = [f"{self.attempt} at {self.node}"] if self.attempt else []
        return f"<Token {', '.join([*running, *(f'after {name}' for name in names)]) or 'of nothing'}>"

    def _check(self) -> None:
        if bool(self.attempt) != bool(self.node):
            raise ValueError
        if self.attempt:
            ids.checked(self.attempt)
        for commit in self.commits:
            ids.checked(wire.CommitToken.FromString(commit).id)


Tokens: TypeAlias = Token | Iterable[Token]
"""One token or several."""


def as_tuple(tokens: Tokens) -> tuple[Token, ...]:
    """Take one token or several; refuses what is none."""
    given = (tokens,) if isinstance(tokens, Token) else tuple(tokens)
    for one in given:
        if not isinstance(one, Token):
            raise TypeError(f"a token must be an aft.Token, not {type(one).__name__}: use Token.parse")
    return given


def of_one_transaction(tokens: Tokens) -> tuple[Token, ...]:
    """Take tokens that name one running transaction."""
    given = as_tuple(tokens)
    if not given:
        raise InvalidRequest("there is no token to go on from; to begin a transaction, give none at all")
    for token in given:
        if not token.attempt:
            raise InvalidRequest(
                "this token names no transaction that still runs; to see its commits give it as `after`"
            )
        if token.attempt != given[0].attempt:
            raise InvalidRequest(
                f"these tokens are of two transactions, {given[0].attempt} and {token.attempt}: what "
                "comes together must have begun as one, in one try of the whole"
            )
    return given


def in_start_request(commit: bytes) -> str:
    """Write a commit as the sidecar wants it."""
    return base64.urlsafe_b64encode(commit).decode().rstrip("=")


def _from_base64(text: bytes) -> bytes:
    body = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if not body.startswith(_VERSION):
        raise ValueError
    return body


def _fields(body: bytes) -> Iterator[bytes]:
    at = len(_VERSION)
    while at < len(body):
        if at + _LENGTH.size > len(body):
            raise ValueError
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size + length
        if at > len(body):
            raise ValueError
        yield body[at - length : at]
