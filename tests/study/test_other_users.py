"""Another user of the machine cannot reach the Ray of a local launch: not its ports, its sockets or its files."""

import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.sockets import listening
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

from rem_study.search.own_ray import behind_a_token

NOBODY = 65534
HOLD = """
import json, os, sys, ray
from rem_study.search.connection import connected
with connected(None, keep_logs=lambda: False) as own:
    session = ray._private.worker._global_node.get_session_dir_path()
    told = {"address": ray.get_runtime_context().gcs_address, "session": session, "folder": str(own)}
    print(json.dumps(told | {"token": os.environ.get("RAY_AUTH_TOKEN", "")}), flush=True)
    sys.stdin.read()
print(os.environ.get("RAY_AUTH_TOKEN"), own.exists())
"""
ATTACK = f"""
import os, sys, ray
from ray._raylet import GcsClient
if os.geteuid() == 0:  # as another user; not from the start, since that one may not be able to read this Python
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
try:
    GcsClient(address=sys.argv[1]).internal_kv_put(b"planted", b"x", True, None)
    print("let in as", os.geteuid())
except Exception as error:
    print(error)
"""


@pytest.fixture(scope="module")
def held() -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", HOLD]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, umask=0, **streams) as process:
        yield process, json.loads(process.stdout.readline())
        after, _ = process.communicate()
    assert after.split() == ["None", "False"]


def attacked(address: str, **environment: str) -> str:
    """What another user gets to see who writes to a Ray at `address`; our own where we cannot be another."""
    plain = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    told = subprocess.run(
        [sys.executable, "-c", ATTACK, address],
        env=plain | {"HOME": "/nonexistent", ENABLE_RAY_CLUSTERS_ENV_VAR: "0"} | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return told.stdout + told.stderr


@pytest.mark.slow
def test_without_the_token_of_this_launch_nobody_is_let_in(held):
    _, ray = held
    assert len(ray["token"]) == 64
    refused = attacked(ray["address"])
    assert "let in" not in refused and "Unauthenticated" in refused, refused
    guessed = attacked(ray["address"], RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert "let in" not in guessed and "Unauthenticated" in guessed, guessed
    known = attacked(ray["address"], RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=ray["token"])
    assert "let in as" in known, known  # so it was the token


@pytest.mark.slow
def test_what_speaks_http_wants_the_token_or_tells_figures_only(held):
    process, _ = held
    answers: dict[str, set[int | str]] = {}
    for name, places in listening(process.pid).items():
        for _, port in places:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                    head = page.read(20)
                    answers.setdefault(name, set()).add("figures" if head.startswith(b"# HELP") else page.status)
            except urllib.error.HTTPError as error:
                answers.setdefault(name, set()).add(error.code)
            except (OSError, ValueError):
                continue
            except Exception as error:  # what answers in gRPC
                assert "BadStatusLine" in type(error).__name__
    assert set().union(*answers.values()) <= {"figures", 401}, answers
    assert any(401 in codes for name, codes in answers.items() if "Agent" in name), answers


@pytest.mark.slow
def test_its_folder_is_closed_to_others_whatever_the_umask(held):
    _, ray = held
    folder = Path(ray["folder"])
    assert Path(ray["session"]).is_relative_to(folder) and list(Path(ray["session"], "sockets").iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        for what in ("ls", "touch"):
            path = ray["session"] + ("/x" if what == "touch" else "")
            told = subprocess.run([what, path], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True)
            assert b"Permission denied" in told.stderr


@pytest.mark.parametrize(
    ("given", "token"),
    [
        ({}, None),
        ({"RAY_AUTH_MODE": "token"}, None),
        ({"RAY_AUTH_TOKEN": "own"}, "own"),
        ({"RAY_AUTH_MODE": "disabled"}, ""),
        ({"RAY_AUTH_TOKEN_PATH": "/own"}, ""),
    ],
)
def test_a_token_is_made_where_the_environment_says_nothing_of_one(monkeypatch, given, token):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with behind_a_token():
        found = os.environ.get("RAY_AUTH_TOKEN", "")
        assert len(found) == 64 if token is None else found == token
        assert os.environ.get("RAY_AUTH_MODE") == ("token" if token is None else given.get("RAY_AUTH_MODE"))
    assert dict(os.environ) == before
