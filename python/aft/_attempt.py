"""One attempt at a transaction: what may be asked of it, and when. No input or output here."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from aft import _flows
from aft._effects import Flow, ask
from aft._flows import Settings
from aft._requests import TRANSACTION_ID, Get, Items, Put, Tag, last_writer_wins
from aft._verdict import exception
from aft._wire import anna_pb2 as anna
from aft.errors import AftError, AlreadyCommitted, InvalidRequest, OutcomeUnknown
from aft.ids import base_of
from aft.tokens import Token, Tokens, as_tuple, of_one_transaction

Value: TypeAlias = bytes | bytearray | memoryview

NOTHING = Token()


class Phase(enum.Enum):
    """How far an attempt is, as its client knows."""

    RUNNING = "is running"
    COMMITTED = "has committed"
    ABORTED = "was aborted"
    UNKNOWN = "was sent its commit, and how that ended is not known"
    HANDED_ON = "was handed on"


class Attempt:
    """What the client knows of an attempt, and the flows of its operations."""

    def __init__(self, settings: Settings, tag: Tag, session: Token = NOTHING) -> None:
        self.settings = settings
        self.name = tag.id
        self.node = tag.address
        self.phase = Phase.RUNNING
        self._session = session
        self._broken: AftError | None = None

    @property
    def id(self) -> str:
        """The base id."""
        return base_of(self.name)

    @property
    def token(self) -> Token:
        """What is handed on when it is over here."""
        if self.phase is Phase.HANDED_ON:
            return Token(self.name, self.node, self._session.commits)
        if self.phase is Phase.COMMITTED:
            return self._session
        if self.phase is Phase.RUNNING:
            why = "still runs here: take its token after the `with` block"
        else:
            why = f"{self.phase.value}, so there is nothing to hand on"
        raise InvalidRequest(f"the transaction {why}", self.name)

    def get(self, keys: Iterable[str]) -> Flow[dict[str, bytes | None]]:
        """Read keys as of one moment."""
        self._must_run()
        return (yield from read(self.settings, self.name, keys))

    def put(self, writes: Mapping[str, Value]) -> Flow[None]:
        """Write keys, seen by nobody else before the commit."""
        self._must_run()
        try:
            yield from write(self.settings, self.name, writes)
        except InvalidRequest as error:
            # A single write that was refused is simply not there; of several, some may be.
            self._broken = error if len(writes) > 1 else self._broken
            raise
        except AftError as error:
            self._broken = error
            raise

    def commit(self, also: Tokens = (), until: float | None = None) -> Flow[Token]:
        """Let all writes take effect, with those of branches that come together only now."""
        self._must_run()
        branches = as_tuple(also)
        if branches:
            of_one_transaction((Token(self.name, self.node), *branches))
        self._must_be_whole()
        self.phase = Phase.UNKNOWN
        try:
            addresses = list(dict.fromkeys(branch.node for branch in branches))
            tag = yield from _flows.commit(self.settings, self.name, addresses, until)
        except OutcomeUnknown:
            raise
        except AftError:
            self.phase = Phase.ABORTED
            raise
        self.phase = Phase.COMMITTED
        own = Token(commits=(tag.token,) if tag.token else ())
        self._session = Token.merge((self._session, *(Token(commits=b.commits) for b in branches), own))
        return self._session

    def abort(self) -> Flow[None]:
        """Give the writes up."""
        self._must_run()
        self.phase = Phase.ABORTED
        try:
            yield from _flows.abort(self.settings, self.name)
        except AlreadyCommitted:
            self.phase = Phase.COMMITTED
            raise

    def leave(self, error: BaseException | None, hands_on: bool = False) -> Flow[None]:
        """End the attempt as the end of a ``with`` block does, or let others go on with it."""
        if self.phase is not Phase.RUNNING:
            return
        try:
            if error is None and hands_on:
                self._must_be_whole()
                self.phase = Phase.HANDED_ON
            elif error is None:
                yield from self.commit()
        except AftError as refused:
            yield from self._give_up(refused)
            raise
        if error is not None:
            yield from self._give_up(error)

    def work(self, call: Flow[object], until: float) -> Flow[tuple[object, Token | None]]:
        """Do the user's work and commit, unless the work ended the attempt itself."""
        value = yield from call
        if self.phase is Phase.RUNNING:
            until = max(until, self.settings.clock() + self.settings.deadline_s)
            yield from self.commit(until=until)
        return value, self.token if self.phase is Phase.COMMITTED else None

    def _give_up(self, error: BaseException) -> Flow[None]:
        if self.phase is Phase.RUNNING:
            self.phase = Phase.ABORTED
        yield from _flows.give_up(self.name, error)

    def _must_be_whole(self) -> None:
        if self._broken is not None:
            raise InvalidRequest(
                f"a write failed, so the transaction cannot commit the others: {self._broken.message}",
                self.name,
            )

    def _must_run(self) -> None:
        if self.phase is not Phase.RUNNING:
            raise InvalidRequest(f"the transaction {self.phase.value}; it is over here", self.name)


def read(settings: Settings, attempt: str | None, keys: Iterable[str]) -> Flow[dict[str, bytes | None]]:
    """Read keys as of one moment, in a transaction or in one of their own."""
    wanted = list(dict.fromkeys(checked(key) for key in keys))
    if not wanted:
        return {}
    items = yield from ask(Get(attempt, wanted), settings.deadline_s)
    raise_if_failed(items, wanted, attempt)
    return {key: items.by_key[key].value for key in wanted}


def write(settings: Settings, attempt: str | None, writes: Mapping[str, Value]) -> Flow[None]:
    """Write keys, in a transaction or in one of their own."""
    wrapped = {checked(key): last_writer_wins(as_bytes(key, writes[key])) for key in writes}
    if not wrapped:
        return
    items = yield from ask(Put(attempt, wrapped), settings.deadline_s)
    raise_if_failed(items, list(wrapped), attempt)


def raise_if_failed(items: Items, wanted: Iterable[str], attempt: str | None) -> None:
    """Raise if any of the keys that were asked for was not served."""
    for key in wanted:
        item = items.by_key.get(key)
        error = items.error if item is None or item.error == anna.NO_ERROR else item.error
        if item is None and error == anna.NO_ERROR:
            raise exception(anna.TIMEOUT, f"the answer leaves out the key {key!r}", attempt)
        if error != anna.NO_ERROR:
            detail = items.detail and f"{items.detail} (key {key!r})"
            raise exception(error, detail, attempt)


def checked(key: str) -> str:
    """Refuse what cannot be a key."""
    if not isinstance(key, str):
        raise TypeError(f"a key must be a str, not {type(key).__name__}")
    if key in {"", TRANSACTION_ID}:
        raise InvalidRequest(f"{key!r} is not a usable key")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"the key {key!r} cannot be written as UTF-8") from None
    return key


def as_bytes(key: str, value: Value) -> bytes:
    """Take a value as it is, if it is bytes."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"the value of {key!r} must be bytes, not {type(value).__name__}")
    return bytes(value)
