"""What is committed, and which of it a transaction may read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Version:
    """One committed value, and the keys that were committed together with it."""

    number: int
    value: bytes
    together: frozenset[str]


class NoFittingVersion(Exception):
    """Every version that is left would show half of some transaction."""


@dataclass
class ReadSet:
    """What a transaction has read: the versions by key, and the keys it found missing."""

    versions: dict[str, Version] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def merge(self, other: ReadSet) -> None:
        """Take over what a parallel branch has read, if both together show no fraction."""
        versions = {**self.versions, **other.versions}
        missing = self.missing | other.missing
        agree = all(versions[key] is version for key, version in self.versions.items())
        together = ReadSet(versions, missing)
        if not agree or not all(fits(version, together) for version in versions.values()):
            raise NoFittingVersion
        self.versions, self.missing = versions, missing


class Versions:
    """All committed versions, oldest first, by key. Nothing is ever collected."""

    def __init__(self) -> None:
        self._by_key: dict[str, list[Version]] = {}
        self._number = 0

    def commit(self, writes: dict[str, bytes]) -> int:
        """Add one transaction's writes, and number it."""
        self._number += 1
        for key, value in writes.items():
            version = Version(self._number, value, frozenset(writes))
            self._by_key.setdefault(key, []).append(version)
        return self._number

    def newest(self) -> dict[str, bytes]:
        """Show the newest value of every key."""
        return {key: versions[-1].value for key, versions in self._by_key.items()}

    def read(self, keys: Collection[str], seen: ReadSet) -> dict[str, bytes | None]:
        """Read keys as of one moment, so that no transaction is seen in half."""
        seen.missing.difference_update(keys)
        return {key: self._read_one(key, seen) for key in keys}

    def _read_one(self, key: str, seen: ReadSet) -> bytes | None:
        version = seen.versions.get(key) or self._choose(key, seen)
        if version is None:
            seen.missing.add(key)
            return None
        seen.versions[key] = version
        return version.value

    def _choose(self, key: str, seen: ReadSet) -> Version | None:
        # What was written together with something that was read fits, and is met before anything older.
        versions = self._by_key.get(key, [])
        for version in reversed(versions):
            if fits(version, seen):
                return version
        if versions:
            raise NoFittingVersion
        return None


def fits(version: Version, seen: ReadSet) -> bool:
    """Whether nothing that was committed with it was read older, or found missing."""
    older = (
        other in seen.versions and seen.versions[other].number < version.number
        for other in version.together
    )
    return not any(older) and seen.missing.isdisjoint(version.together)
