"""A sidecar in memory, for the unit tests of functions that use transactions."""

from aft.testing._fake import FakeAft
from aft.testing._faults import Fault, Killed

__all__ = ["FakeAft", "Fault", "Killed"]
