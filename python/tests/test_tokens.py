"""What one function hands to the next, as a value."""

from __future__ import annotations

import json
import pickle
import urllib.parse

import pytest

import aft
from aft._wire import aft_pb2 as wire
from aft.tokens import COMMITS_MAX


def commit(name: str) -> bytes:
    return wire.CommitToken(id=name, node="10.0.0.7:1", incarnation="x", number=9).SerializeToString()


TOKENS = [
    aft.Token(),
    aft.Token("order:17.3f", "10.0.0.7:200"),
    aft.Token("x.1", "[::1]:7", (commit("a"), commit("b.1"))),
    aft.Token(commits=(commit("a"),)),
]


@pytest.mark.parametrize("token", TOKENS)
def test_it_comes_back_from_every_form(token: aft.Token) -> None:
    text = str(token)
    for form in (text, text.encode(), bytes(token)):
        assert aft.Token.parse(form) == token
    assert pickle.loads(pickle.dumps(token)) == token
    assert len({token, aft.Token.parse(text)}) == 1
    assert urllib.parse.quote(text, safe="") == text
    assert json.loads(json.dumps(text)) == text


@pytest.mark.parametrize(
    "bad",
    [
        *("", "x", "x.1", "é", "AQ=", str(TOKENS[2])[:-3]),
        *(b"", b"\x01\x00", b"\x01\x00\x05abc"),
        bytes(aft.Token("x.1", "")),
        bytes(aft.Token("a b", "n")),
        bytes(aft.Token("", "", (b"\xff",))),
    ],
)
def test_what_is_no_token_is_refused(bad: str | bytes) -> None:
    with pytest.raises(aft.InvalidRequest, match=r"hand on what `txn\.token` gave"):
        aft.Token.parse(bad)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TOKENS[1].node = "elsewhere"  # type: ignore[misc]


def test_sessions_merge() -> None:
    one, other = (aft.Token(commits=(commit(name),)) for name in "ab")
    assert (one | other | one).commits == (commit("a"), commit("b"))
    assert aft.Token.merge([]) == aft.Token()
    with pytest.raises(aft.InvalidRequest, match="still runs"):
        one | TOKENS[1]


def test_a_long_session_names_its_latest_commits() -> None:
    each = [aft.Token(commits=(commit(f"t{number}"),)) for number in range(COMMITS_MAX + 5)]
    merged = aft.Token.merge(each)
    assert len(merged.commits) == COMMITS_MAX
    assert merged.commits[-1] == each[-1].commits[0]
    assert aft.Token.parse(str(merged)) == merged


def test_it_tells_people_what_it_names() -> None:
    assert repr(TOKENS[2]) == "<Token x.1 at [::1]:7, after a, after b.1>"
    assert repr(aft.Token()) == "<Token of nothing>"
