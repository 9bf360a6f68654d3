"""Flags over environment over file over defaults, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon import run

tomllib: Any = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")


def printed(*arguments: str, **environment: str) -> dict[str, object]:
    result = run("sidecar", "--print-config", *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return dict(tomllib.loads(result.stdout))


def test_what_wins(place: Path) -> None:
    file = place / "aft.toml"
    file.write_text("txn-timeout = 1.0\nkeys-max = 11\ntxn-max = 12\n")
    given = ["--config", str(file), "--txn-timeout", "3"]
    settings = printed(*given, AFT_TXN_TIMEOUT="2", AFT_KEYS_MAX="22")
    assert (settings["txn-timeout"], settings["keys-max"], settings["txn-max"]) == (3.0, 22, 12)
    assert settings["ipc-dir"] == "/requests"
    assert settings["storage"] == "embedded"


def test_what_is_printed_is_a_configuration(place: Path) -> None:
    file = place / "aft.toml"
    file.write_text(run("sidecar", "--print-config", "--txn-timeout", "7").stdout)
    assert printed("--config", str(file)) == printed("--txn-timeout", "7")
    assert run("sidecar", "--check-config", "--config", str(file)).returncode == 0


def test_an_unknown_name_is_refused_with_the_nearest(place: Path) -> None:
    file = place / "aft.toml"
    file.write_text("txn-timout = 1.0\n")
    result = run("sidecar", "--check-config", "--config", str(file))
    assert result.returncode == 64
    assert "txn-timeout" in result.stderr
    assert run("sidecar", "--txn-timout", "1").returncode != 0


def test_bad_values_are_refused(place: Path) -> None:
    for arguments in (
        ["--txn-timeout", "0"],
        ["--log", "=nonsense="],
        ["--config", str(place / "none")],
    ):
        result = run("sidecar", "--check-config", *arguments)
        assert result.returncode == 64, arguments
        assert result.stderr


def test_directories_that_cannot_be_used(place: Path) -> None:
    long = place / ("x" * 120)
    result = run("sidecar", "--ipc-dir", str(long), "--storage", "memory", "--admin", "127.0.0.1:0")
    assert result.returncode == 1
    assert "too long" in result.stderr
    foreign = place / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("important")
    arguments = ["--ipc-dir", str(place / "ipc"), "--data-dir", str(foreign), "--admin", "127.0.0.1:0"]
    result = run("sidecar", *arguments)
    assert result.returncode == 1
    assert "not a store" in result.stderr
    assert (foreign / "thesis.txt").read_text() == "important"


def test_the_help_names_every_option_of_the_contract() -> None:
    text = run("sidecar", "--help").stdout
    options = "ipc-dir storage data-dir ip port-offset consistency txn-timeout admin config check-config"
    for option in [*options.split(), "print-config", "history"]:
        assert f"--{option} " in text or f"--{option}\n" in text, option
