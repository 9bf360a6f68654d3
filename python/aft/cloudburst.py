"""Stands in for Cloudburst's ``AnnaIpcClient``, call for call.

    from aft.cloudburst import AftIpcClient
    kvs = AftIpcClient(thread_id, context)

What differs is what happens when something goes wrong: start, commit, abort and continue give up
after a deadline instead of waiting for ever, a late answer is never taken for the next one's, and an
error that the transaction cannot recover from is raised, with what to do about it, where the original
returns ``None`` and lets the caller spin.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aft import _flows
from aft._attempt import raise_if_failed
from aft._core import COMMIT_DEADLINE_S, DEADLINE_S, settings_for
from aft._drive import Driver
from aft._ipc import IpcDir
from aft._pool import Pool
from aft._requests import Get, Items, Put, Status, Tag, last_writer_wins
from aft._wire import anna_pb2 as anna
from aft.errors import InvalidRequest, SidecarUnavailable
from aft.lattices import LWWPairLattice

__all__ = ["AftIpcClient", "Lattice"]

_log = logging.getLogger(__name__)

_MAY_COME_YET = (anna.TIMEOUT, anna.NO_SERVERS)
"""Errors of a read that Cloudburst's own repeating can cure."""


class Lattice(Protocol):
    """What a value must be able to do: theirs and ours can."""

    def serialize(self) -> tuple[Any, int]:
        """Give a protobuf message and the number of the lattice type."""

    def reveal(self) -> Any:
        """Give the plain value."""


class AftIpcClient:
    """The key-value store as a Cloudburst executor thread sees it."""

    #: Cloudburst's base class looks for it; there are no cached addresses here.
    address_cache = None
    #: Each request names an address of its own.
    response_address = ""

    def __init__(
        self,
        thread_id: int = 0,
        context: object = None,
        *,
        ipc_dir: str | os.PathLike[str] | None = None,
        deadline: float = DEADLINE_S,
        commit_deadline: float = COMMIT_DEADLINE_S,
        lattice: Callable[[int, bytes], Lattice] | None = None,
    ) -> None:
        """Make a client for one executor thread.

        ``thread_id`` and ``context`` are accepted as Cloudburst passes them and not needed: reply
        sockets get names that no other process can take, and have a context of their own. Values are
        returned as ``lattice(timestamp, value)``: ``anna.lattices.LWWPairLattice`` if that is
        installed, as Cloudburst's serializer insists on it, else our own of the same name.
        """
        self._settings = settings_for(deadline, commit_deadline)
        self._driver = Driver(Pool(IpcDir(ipc_dir)))
        self._lattice = lattice or _installed_lattice()
        self._unsure: set[str] = set()

    def start(self) -> Tag:
        """Begin a transaction; its ``id`` is what the other calls want."""
        return self._driver.drive(_flows.begin(self._settings, None))

    def continue_txn(self, tid: str, address: str, my_ip: str) -> Tag:
        """Go on with a transaction that ran on the node ``address``; nothing to do if that is here."""
        if address != my_ip:
            self._driver.drive(_flows.go_on(self._settings, tid, address))
        return Tag(tid, Status.RUNNING, address)

    def commit(self, tag: Any, ip_address: str | None = None, schedule: Any = None) -> None:
        """Commit, on all nodes of the schedule; raises unless it has taken effect."""
        attempt = _id_of(tag)
        if attempt in self._unsure:
            self._unsure.discard(attempt)
            raise InvalidRequest("a put was not answered, so the others must not be committed", attempt)
        addresses = _nodes(schedule) - {ip_address}
        flow = _flows.commit(self._settings, attempt, tuple(sorted(a for a in addresses if a)))
        self._driver.drive(flow)

    def abort(self, tag: Any) -> None:
        """Give the transaction up; raises unless that is what happened."""
        attempt = _id_of(tag)
        self._unsure.discard(attempt)
        self._driver.drive(_flows.abort(self._settings, attempt))

    def get(self, keys: str | Sequence[str], txn_id: str | None = None) -> dict[str, Lattice | None]:
        """Read keys, all as of one moment.

        ``None`` stands for a key without a value, and, as in the original, for one that could not be
        read in time. A transaction that is over is raised.
        """
        wanted = _as_list(keys)
        try:
            items = self._driver.exchange.ask(
                Get(txn_id, list(dict.fromkeys(wanted))), self._settings.deadline_s
            )
        except SidecarUnavailable as error:
            _log.error("Unexpected error while requesting keys %s: %s.", wanted, error)
            return dict.fromkeys(wanted)
        return {key: self._value(items, key, txn_id) for key in wanted}

    def put(
        self,
        keys: str | Sequence[str],
        values: Lattice | bytes | Sequence[Lattice | bytes],
        txn_id: str | None = None,
    ) -> dict[str, bool]:
        """Write keys; ``False`` for one whose answer did not come in time, all others raise.

        A transaction with such a key does not commit through this client.
        """
        names = _as_list(keys)
        writes = {name: _serialized(value) for name, value in zip(names, _as_list(values), strict=True)}
        try:
            items = self._driver.exchange.ask(Put(txn_id, writes), self._settings.deadline_s)
        except SidecarUnavailable as error:
            _log.error("Request for %s timed out: %s.", names, error)
            if txn_id is not None:
                self._unsure.add(txn_id)
            return dict.fromkeys(names, False)
        raise_if_failed(items, names, txn_id)
        return dict.fromkeys(names, True)

    def causal_get(self, *_: object, **__: object) -> None:
        """Refuse: transactions take the place of causal consistency."""
        raise NotImplementedError("aft serves last-writer-wins values in transactions, not causal ones")

    causal_put = causal_get

    def close(self) -> None:
        """Close the sockets and remove their files."""
        self._driver.exchange.close()

    def _value(self, items: Items, key: str, txn_id: str | None) -> Lattice | None:
        item = items.by_key.get(key)
        error = items.error if item is None else item.error
        if error in _MAY_COME_YET:
            return None
        raise_if_failed(items, [key], txn_id)
        value = items.by_key[key]
        return None if value.value is None else self._lattice(value.timestamp, value.value)


def _installed_lattice() -> Callable[[int, bytes], Lattice]:
    try:
        from anna.lattices import LWWPairLattice as Theirs
    except ImportError:
        return LWWPairLattice
    theirs: Callable[[int, bytes], Lattice] = Theirs
    return theirs


def _id_of(tag: Any) -> str:
    """Take what ``start`` returned, or anything else with an ``id``, or the id itself."""
    attempt = tag if isinstance(tag, str) else tag.id
    if not isinstance(attempt, str):
        raise TypeError(f"a transaction's id must be a str, not {type(attempt).__name__}")
    return attempt


def _nodes(schedule: Any) -> set[str | None]:
    """Give the addresses, without ports, of all nodes in a DAG's schedule."""
    locations: Mapping[str, str] = {} if schedule is None else schedule.locations
    return {locations[function].split(":")[0] for function in locations}


def _as_list(one_or_many: Any) -> list[Any]:
    return one_or_many if isinstance(one_or_many, list) else [one_or_many]


def _serialized(value: Any) -> tuple[anna.LatticeType, bytes]:
    if isinstance(value, bytes):
        return last_writer_wins(value)
    message, lattice_type = value.serialize()
    return lattice_type, message.SerializeToString()
