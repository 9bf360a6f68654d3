"""What the blocking and the asyncio client have in common: which flow each of their methods is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aft import _flows
from aft._attempt import Attempt
from aft._effects import Flow
from aft._flows import Finished, Settings
from aft._requests import Tag
from aft.errors import InvalidRequest, OutcomeUnknown
from aft.ids import checked, new_id
from aft.policy import RetryPolicy
from aft.results import Outcome
from aft.tokens import Token, Tokens, as_tuple, of_one_transaction

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


def opened(settings: Settings, id: str | None, after: Tokens) -> Flow[Attempt]:  # noqa: A002
    """Begin a transaction that sees the commits of a session."""
    session = Token.merge(after)
    return Attempt(settings, (yield from _flows.begin(settings, usable(id), session.commits)), session)


def joined(settings: Settings, tokens: Tokens) -> Flow[Attempt]:
    """Go on with a transaction that ran elsewhere, in one function or in several."""
    given = of_one_transaction(tokens)
    session = Token.merge(Token(commits=token.commits) for token in given)
    yield from _flows.catch_up(settings, session.commits)
    for node in dict.fromkeys(token.node for token in given):
        tag = yield from _flows.go_on(settings, given[0].attempt, node)
    return Attempt(settings, tag, session)


def step_opened(
    settings: Settings,
    tokens: Tokens | None,
    id: str | None,  # noqa: A002
    after: Tokens,
) -> Flow[Attempt]:
    """Begin a transaction if there is no token to go on from."""
    if tokens is None:
        return opened(settings, id, after)
    if id is not None or as_tuple(after):
        raise InvalidRequest("`id` and `after` belong to the first step; later ones take its token only")
    return joined(settings, tokens)


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
    after: Tokens,
    deadline: float,
) -> Flow[Finished]:
    """Run a function until it commits."""
    session = Token.merge(after)

    def work(tag: Tag, until: float) -> Flow[tuple[Any, Token | None]]:
        attempt = Attempt(settings, tag, session)
        return attempt.work(_flows.body(lambda: call(attempt)), until)

    policy = policy_for(settings, retries)
    return _flows.run(settings, policy, usable(id), session.commits, deadline, work)


def dag_ran(
    settings: Settings,
    call: Callable[[str], Any],
    retries: int | RetryPolicy | None,
    id: str | None,  # noqa: A002
    deadline: float,
) -> Flow[Finished]:
    """Run functions on several nodes until the last one of them has committed."""
    return _flows.run_dag(
        settings, policy_for(settings, retries), usable(id) or new_id(), deadline, call
    )
