"""What the blocking and the asyncio client have in common: which flow each of their methods is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aft import _flows
from aft._attempt import Attempt
from aft._effects import Flow
from aft._flows import Finished, Settings
from aft._requests import Status, Tag
from aft.errors import InvalidRequest, OutcomeUnknown
from aft.ids import checked
from aft.policy import RetryPolicy
from aft.results import Outcome

DEADLINE_S = 5.0
"""The sidecar answers all but commits within 4 s."""

COMMIT_DEADLINE_S = 15.0
"""The sidecar answers commits within 10 s."""

RUN_DEADLINE_S = 30.0


def settings_for(deadline: float, commit_deadline: float | None) -> Settings:
    """Check the times that the user chose."""
    if commit_deadline is None:
        commit_deadline = max(COMMIT_DEADLINE_S, deadline)
    if deadline <= 0 or commit_deadline <= 0:
        raise InvalidRequest("a deadline must be longer than 0 seconds")
    return Settings(deadline, commit_deadline)


def policy_for(settings: Settings, retries: int | RetryPolicy | None) -> RetryPolicy:
    """Take a policy, or just how many retries, or the client's own."""
    if retries is None:
        return settings.policy
    return retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries=retries)


def usable(id: str | None) -> str | None:  # noqa: A002
    """Check an id that the user may have brought."""
    return None if id is None else checked(id)


def opened(settings: Settings, id: str | None) -> Flow[Attempt]:  # noqa: A002
    """Begin a transaction."""
    return Attempt(settings, (yield from _flows.begin(settings, usable(id))))


def joined(settings: Settings, attempt: str, upstream: str) -> Flow[Attempt]:
    """Go on with a transaction that began elsewhere."""
    yield from _flows.go_on(settings, checked(attempt), upstream)
    return Attempt(settings, Tag(attempt, Status.RUNNING, upstream))


def resolved(settings: Settings, what: str | OutcomeUnknown, deadline: float | None) -> Flow[Outcome]:
    """Find out how a transaction ended."""
    until = None if deadline is None else settings.clock() + deadline
    if isinstance(what, str):
        return _flows.resolve_id(settings, checked(what), until)
    if what.id is None:
        raise InvalidRequest("this write was not part of a transaction with an id: read the key")
    return _flows.resolve(settings, what.id, until)


def ran(
    settings: Settings,
    call: Callable[[Attempt], Any],
    retries: int | RetryPolicy | None,
    id: str | None,  # noqa: A002
    deadline: float,
) -> Flow[Finished]:
    """Run a function until it commits."""

    def work(tag: Tag, until: float) -> Flow[Any]:
        attempt = Attempt(settings, tag)
        return attempt.work(_flows.body(lambda: call(attempt)), until)

    return _flows.run(settings, policy_for(settings, retries), usable(id), deadline, work)
