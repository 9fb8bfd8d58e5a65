"""`persyn serve`: the app in a browser, on loopback unless told otherwise."""

import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import Workspace


def test_another_host_is_refused_without_public(tmp_path: Path) -> None:
    done = Workspace(tmp_path).call("serve", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--public" in done.stderr
    assert "ssh -L" in done.stderr


def test_the_page_is_served_on_loopback(tmp_path: Path) -> None:
    pytest.importorskip("textual_serve", reason="the extra `serve` is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Workspace(tmp_path).start("serve", "--port", port)
    try:
        page = _fetch(f"http://127.0.0.1:{port}")
        foreign = urllib.request.Request(f"http://127.0.0.1:{port}", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=5)
    finally:
        server.kill()
    assert "PerSyn" in page
    assert "textual.js" in page


def _fetch(address: str, patience: float = 60.0) -> str:
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_an_address_that_is_taken_or_is_none_is_said_before_anything_is_served(tmp_path: Path) -> None:
    pytest.importorskip("textual_serve", reason="the extra `serve` is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = Workspace(tmp_path).call("serve", "--port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: http://127.0.0.1:{port}: Address already in use\n  → ")
    done = Workspace(tmp_path).call("serve", "--host", "name.invalid", "--public")
    assert done.returncode == 2
    assert "serving on" not in done.stderr
