"""Transaction ids.

A *base id* names what is to be done once; the sidecar names each try at it ``<base id>.<nonce>``. Ids
made here are UUIDs of version 7, whose first bits are the time: the sidecar remembers outcomes for
a limited time and refuses an id that is too old to be judged.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid

from aft.errors import InvalidRequest

__all__ = ["base_of", "new_id"]

_RANDOM_BYTES = 10
_USABLE = re.compile(r"[A-Za-z0-9_:-]{1,128}(\.[A-Za-z0-9_:-]{0,32})?")


def new_id() -> str:
    """Make an id for something that is to take effect once. Keep it to be able to try again."""
    return _uuid7(time.time_ns() // 1_000_000, os.urandom(_RANDOM_BYTES))


def base_of(attempt: str) -> str:
    """Give the base id of an attempt's name. A base id is its own."""
    return attempt.partition(".")[0]


def checked(id: str) -> str:  # noqa: A002
    """Refuse what cannot name a transaction, rather than send what might be read as something else."""
    if not isinstance(id, str):
        raise TypeError(f"a transaction id must be a str, not {type(id).__name__}")
    if not _USABLE.fullmatch(id):
        raise InvalidRequest(
            f"{id!r} is not a usable transaction id: use up to 128 letters, digits, '-', '_' and ':'"
        )
    return id


def successor(base: str) -> str:
    """Name the id that follows one which was settled as aborted.

    It follows from ``base`` alone, so that everybody who was told to do ``base`` once, in whatever
    process, agrees on where to go on, and it is still done once. It keeps the age of ``base``, so
    that it is forgotten no later.
    """
    digest = hashlib.sha256(b"aft successor " + base.encode()).digest()
    created = _created_ms(base)
    if created is None:
        return f"next-{digest[:16].hex()}"
    return _uuid7(created, digest[:_RANDOM_BYTES])


def _created_ms(base: str) -> int | None:
    try:
        parsed = uuid.UUID(base)
    except ValueError:
        return None
    return parsed.int >> 80 if parsed.version == 7 else None


def _uuid7(unix_ms: int, random: bytes) -> str:
    tail = int.from_bytes(random, "big")
    # 48 bits of time, 4 of version, 12 random, 2 of variant, 62 random.
    number = (unix_ms & (1 << 48) - 1) << 80 | 7 << 76 | (tail >> 62 & 0xFFF) << 64
    number |= 0b10 << 62 | tail & (1 << 62) - 1
    return str(uuid.UUID(int=number))
