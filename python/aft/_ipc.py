"""The sidecar's directory: where its sockets are and where ours may be."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from typing import NamedTuple

from aft._requests import Kind
from aft.errors import InvalidRequest, SidecarUnavailable

DEFAULT_DIR = "/requests"
DIR_VARIABLE = "AFT_IPC_DIR"

_PATH_BYTES_MAX = 107
"""What fits into a Unix socket address."""

_NAME_BYTES_MAX = 32
_serials = itertools.count()

CALL = "call"
"""The sidecar's socket for all kinds of request."""


class Door(NamedTuple):
    """A socket of the sidecar's.

    What tells its file from others tells a sidecar from the one that is started after it: each makes the
    files anew.
    """

    name: str
    inode: int
    changed_ns: int


class IpcDir:
    """The directory in which the sidecar's sockets are, and next to them those for its answers."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = os.fspath(path) if path is not None else os.environ.get(DIR_VARIABLE, DEFAULT_DIR)
        # The sidecar knows its directory by the name it was given and by its real one.
        self.path = os.path.realpath(chosen)
        self._left_behind: Door | None = None
        room = _PATH_BYTES_MAX - _NAME_BYTES_MAX - 1
        if len(os.fsencode(self.path)) > room:
            raise InvalidRequest(
                f"the IPC directory {self.path!r} is longer than {room} bytes, so the sockets in it "
                f"would exceed the {_PATH_BYTES_MAX} bytes of a Unix socket's path: use a shorter one"
            )

    def path_of(self, door: str) -> str:
        """Where this socket of the sidecar's is."""
        return f"{self.path}/{door}"

    def new_reply_path(self) -> str:
        """Name a socket of ours that nobody else uses."""
        # A serial number for this process, random bits for processes that share a number in
        # different containers.
        serial = next(_serials) % 0x1000000
        return f"{self.path}/reply_{os.getpid():x}_{secrets.token_hex(4)}{serial:x}"

    def why_unusable(self) -> str | None:
        """Say what is wrong with the directory itself, or ``None``."""
        if not os.path.isdir(self.path):
            return f"there is no sidecar: the directory {self.path} does not exist"
        if not os.access(self.path, os.W_OK | os.X_OK):
            return f"no permission to make sockets in {self.path}: join the sidecar's group"
        return None

    def door(self, kind: Kind) -> Door:
        """Find where requests of this kind are taken; raises if there is no sidecar, or never was."""
        found = self._find(CALL)
        if found is None or found == self._left_behind:
            found = self._find(kind.value)
        if found is None:
            why = self.why_unusable() or self.why_unreachable(kind.value)
            why = why or "the sidecar is only just starting"
            raise unreachable(why, None)
        return found

    def is_gone(self, door: Door) -> bool:
        """Whether the sidecar that was there has ended, even if another took its place."""
        return self._find(door.name) != door or self.why_unreachable(door.name) is not None

    def _find(self, door: str) -> Door | None:
        try:
            found = os.stat(self.path_of(door))
        except FileNotFoundError:
            return None
        return Door(door, found.st_ino, found.st_ctime_ns)

    def why_unreachable(self, door: str) -> str | None:
        """Try the sidecar's socket once and say what is wrong with it, or ``None``."""
        path = self.path_of(door)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except FileNotFoundError:
                return f"there is no sidecar: {path} does not exist"
            except ConnectionRefusedError:
                if door == CALL:
                    # By one that was killed; another one may serve without it.
                    self._left_behind = self._find(CALL)
                return f"there is no sidecar: nobody listens at {path}"
            except PermissionError:
                return f"no permission to connect to {path}: join the sidecar's group"
            except OSError:
                # Busy is not absent.
                return None
        return None

    def unsent(self, error: OSError, about: str | None) -> SidecarUnavailable:
        """Make the error for a request that could not be sent to ``call``."""
        if isinstance(error, TimeoutError):
            return unreachable("the sidecar takes no requests", about)
        why = self.why_unreachable(CALL)
        if why is None and isinstance(error, ConnectionError):
            why = (
                "the sidecar ended the connection: it was started anew, or the request is many times "
                "larger than it takes (--message-bytes-max)"
            )
        return unreachable(why or f"the request cannot be sent: {error}", about)


def unreachable(why: str, about: str | None) -> SidecarUnavailable:
    """Make the error for a request that was never handed over."""
    return SidecarUnavailable(why, about, sent=False)


def unanswered(within_s: float, about: str | None) -> SidecarUnavailable:
    """Make the error for a request that was handed over and not answered in time."""
    return SidecarUnavailable(f"the sidecar did not answer within {within_s:.3g} s", about, sent=True)


def bereaved(about: str | None) -> SidecarUnavailable:
    """Make the error for a request that was handed over to a sidecar that is there no more."""
    return SidecarUnavailable("the sidecar ended before it answered", about, sent=True)
