"""The client's side of the protocol: start, commit, resolve, and running a function until it commits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aft._effects import Body, Flow, ask, pause
from aft._requests import Abort, Commit, Continue, Start, Status, Tag
from aft._verdict import exception
from aft._wire import anna_pb2 as anna
from aft.errors import (
    AftError,
    AlreadyCommitted,
    InvalidRequest,
    OutcomeUnknown,
    RetryableError,
    SidecarUnavailable,
    TransactionAborted,
)
from aft.ids import base_of, successor
from aft.policy import RetryPolicy
from aft.results import Outcome
from aft.tokens import Token

SUCCESSORS_MAX = 64
"""How many settled ids in a row are skipped before giving up on finding an open one."""

GIVING_UP_S = 1.0
"""How long to wait for the answer to an abort whose answer changes nothing."""

_ASKING = "ask"
"""Names no attempt: whoever commits ``<id>.ask`` learns the id's outcome and commits nothing."""


@dataclass
class Settings:
    """What the flows depend on besides the sidecar."""

    deadline_s: float
    commit_deadline_s: float
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = field(default=random.random)
    policy: RetryPolicy = field(default_factory=RetryPolicy)


def begin(settings: Settings, id: str | None, after: Sequence[bytes] = ()) -> Flow[Tag]:  # noqa: A002
    """Open an attempt that sees the commits ``after``, at an id that is not settled as aborted."""
    for _ in range(SUCCESSORS_MAX):
        tag = yield from ask(Start(id, after), settings.deadline_s)
        if tag.status is Status.RUNNING and tag.id:
            return tag
        if tag.status is Status.COMMITTED:
            token = Token(commits=(tag.token,)) if tag.token else None
            raise AlreadyCommitted("this transaction took effect before", id or tag.id, token)
        if tag.status is Status.RUNNING or tag.error == anna.INVALID:
            raise exception(tag.error, tag.detail, id)
        id = successor(base_of(id or tag.id))  # noqa: A001
    raise InvalidRequest(f"this id and the {SUCCESSORS_MAX} that follow it are aborted", id)


def go_on(settings: Settings, attempt: str, upstream: str) -> Flow[Tag]:
    """Take over what an attempt did on another node, and what it had taken over there."""
    tag = yield from ask(Continue(attempt, upstream), settings.deadline_s)
    if tag.error != anna.NO_ERROR:
        raise exception(tag.error, tag.detail, attempt)
    return tag


def catch_up(settings: Settings, commits: Sequence[bytes]) -> Flow[None]:
    """Let the node learn of commits that a transaction which goes on there is to see."""
    if commits:
        # Only a start can bring them.
        tag = yield from begin(settings, None, commits)
        yield from ask(Abort(tag.id), settings.deadline_s)


def commit(
    settings: Settings, attempt: str, addresses: Sequence[str] = (), until: float | None = None
) -> Flow[Tag]:
    """Commit, and ask again until the outcome is known or the time is over.

    Asking again is safe, whatever became of the earlier requests: an id has one outcome.
    """
    tag = yield from _decide(settings, Commit(attempt, addresses), until)
    if tag.status is Status.ABORTED:
        error = tag.error if tag.error != anna.NO_ERROR else anna.RETRY
        raise exception(error, tag.detail, attempt)
    return tag


def resolve(settings: Settings, attempt: str, until: float | None = None) -> Flow[Outcome]:
    """Find out how an attempt whose commit was sent ended, by sending it again."""
    tag = yield from _decide(settings, Commit(attempt), until)
    if tag.error == anna.INVALID:
        raise exception(tag.error, tag.detail, attempt)
    return Outcome.COMMITTED if tag.status is Status.COMMITTED else Outcome.ABORTED


def resolve_id(settings: Settings, id: str, until: float | None = None) -> Flow[Outcome]:  # noqa: A002
    """Find out how an id ended. An attempt that still runs is not made to commit by this."""
    try:
        return (yield from resolve(settings, f"{base_of(id)}.{_ASKING}", until))
    except OutcomeUnknown as unknown:
        raise OutcomeUnknown(unknown.message, id) from None


def _decide(settings: Settings, request: Commit, until: float | None) -> Flow[Tag]:
    """Send a commit until it is answered COMMITTED or ABORTED."""
    if until is None:
        until = settings.clock() + settings.commit_deadline_s
    failures, sent, why = 0, False, "the outcome is not known yet"
    while True:
        # A request or its answer can be lost, so the time is not spent on waiting for one answer.
        within_s = max(min(settings.deadline_s, until - settings.clock()), 0.001)
        try:
            tag = yield from ask(request, within_s)
        except SidecarUnavailable as error:
            sent = sent or error.sent
            if not sent:
                raise
            why = error.message
        else:
            sent, why = True, tag.detail or why
            if tag.status is not Status.RUNNING:
                return tag
            if tag.error == anna.INVALID:
                raise exception(tag.error, tag.detail, request.attempt)
        failures += 1
        wait_s = settings.policy.pause_s(failures, settings.draw())
        if settings.clock() + wait_s >= until:
            raise OutcomeUnknown(why, request.attempt)
        yield from pause(wait_s)


def abort(settings: Settings, attempt: str) -> Flow[None]:
    """End an attempt without effect."""
    tag = yield from ask(Abort(attempt), settings.deadline_s)
    if tag.status is Status.COMMITTED:
        raise AlreadyCommitted("the transaction had taken effect before the abort", attempt)
    if tag.status is Status.RUNNING:
        error = tag.error if tag.error != anna.NO_ERROR else anna.UNDECIDED
        raise exception(error, tag.detail, attempt)


def give_up(attempt: str, why: BaseException) -> Flow[None]:
    """Free what the sidecar holds for an attempt that failed. Never fails itself.

    An attempt that the sidecar itself declared over needs no abort. Nor must one be sent where the
    outcome may be that it committed, or where the sidecar does not answer anyway.
    """
    if isinstance(why, (TransactionAborted, SidecarUnavailable, OutcomeUnknown, AlreadyCommitted)):
        return
    try:
        yield from ask(Abort(attempt), GIVING_UP_S)
    except AftError:
        return


@dataclass
class Finished:
    """How a run ended well."""

    id: str
    value: Any
    replayed: bool
    attempts: int
    token: Token | None


def run(
    settings: Settings,
    policy: RetryPolicy,
    id: str | None,  # noqa: A002
    after: Sequence[bytes],
    deadline_s: float,
    work: Callable[[Tag, float], Flow[tuple[Any, Token | None]]],
) -> Flow[Finished]:
    """Run a function in a transaction until it commits, as one id that takes effect at most once.

    A retry brings the id of the first try: the new attempt fences the old one, and if the old one
    committed after all, the sidecar says so instead of letting the function run again.
    """
    until = settings.clock() + deadline_s
    failures = 0
    while True:
        tag = None
        try:
            tag = yield from begin(settings, id, after)
            id = base_of(tag.id)  # noqa: A001
            value, token = yield from work(tag, until)
            return Finished(id, value, False, failures + 1, token)
        except GeneratorExit:
            raise
        except BaseException as error:
            if tag is None and isinstance(error, AlreadyCommitted):
                return Finished(error.id or "", None, True, failures, error.token)
            failures += 1
            wait_s = policy.pause_s(failures, settings.draw())
            is_last = failures > policy.retries or settings.clock() + wait_s >= until
            if is_last or not _may_run_again(error, begun=tag is not None):
                if tag is not None:
                    yield from give_up(tag.id, error)
                raise
        yield from pause(wait_s)


def run_dag(
    settings: Settings,
    policy: RetryPolicy,
    id: str,  # noqa: A002
    deadline_s: float,
    call: Callable[[str], Any],
) -> Flow[Finished]:
    """Call what runs a transaction's functions on several nodes, until the id has taken effect.

    Not knowing whether it did is a reason to try again, too: the id takes effect at most once, and
    its next attempt is answered what is found out.
    """
    until = settings.clock() + deadline_s
    failures = 0
    while True:
        try:
            value = yield from body(lambda: call(id))
            return Finished(id, value, False, failures + 1, None)
        except AlreadyCommitted as done:
            if not _follows(done.id, id):
                raise
            return Finished(done.id or id, None, True, failures, done.token)
        except (RetryableError, SidecarUnavailable, OutcomeUnknown):
            failures += 1
            wait_s = policy.pause_s(failures, settings.draw())
            if failures > policy.retries or settings.clock() + wait_s >= until:
                raise
        yield from pause(wait_s)


def _follows(found: str | None, id: str) -> bool:  # noqa: A002
    """Whether an id is one of those under which ``id`` is done."""
    base = base_of(id)
    for _ in range(SUCCESSORS_MAX):
        if found is not None and base_of(found) == base:
            return True
        base = successor(base)
    return False


def _may_run_again(error: BaseException, begun: bool) -> bool:
    """Tell errors after which a new attempt may be opened.

    Before this one was begun that includes not knowing how an earlier one ended: the sidecar opens
    no attempt before it knows.
    """
    kinds = (RetryableError, SidecarUnavailable)
    return isinstance(error, kinds if begun else (*kinds, OutcomeUnknown))


def body(call: Callable[[], Any]) -> Flow[Any]:
    """Call the user's function."""
    result = yield Body(call)
    return result
