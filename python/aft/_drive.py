"""Carries flows out by blocking."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from aft._effects import Ask, Body, Effect, Flow, Pause
from aft._requests import Request

T = TypeVar("T")
R = TypeVar("R")


class Exchange(Protocol):
    """Whatever carries a request to a sidecar and its answer back."""

    def ask(self, request: Request[R], within_s: float) -> R:
        """Send a request and wait for its answer."""

    def close(self) -> None:
        """Free what it holds."""


class Driver:
    """Performs what flows ask for, one after the other, in the calling thread."""

    def __init__(self, exchange: Exchange, sleep: Callable[[float], None] = time.sleep) -> None:
        self.exchange = exchange
        self._sleep = sleep

    def drive(self, flow: Flow[T]) -> T:
        """Carry a flow out and return its result."""
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            answer, error = None, None
            try:
                answer = self._perform(effect)
            except BaseException as raised:
                error = raised

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Ask(request, within_s):
                return self.exchange.ask(request, within_s)
            case Pause(seconds):
                return self._sleep(seconds)
            case Body(call):
                return call()
