"""`make demo`'s command, twice, the second time with its port taken."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import urllib3

from tests.acceptance.service import ROOT, free_port
from tests.waiting import eventually


def demo(directory: Path, port: int, *more: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TASKS_")}
    options = ["--rows", "2000", "--port", str(port), "--directory", str(directory)]
    return subprocess.Popen(
        [sys.executable, "-m", "tasks_service", "demo", *options, *more],
        cwd=directory,
        env={**environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_demo_exports_once_and_then_again_beside_a_taken_port(tmp_path: Path) -> None:
    port = free_port()
    first = demo(tmp_path, port, "--once")
    shown, _ = first.communicate(timeout=240)
    assert first.returncode == 0, shown
    assert "the SHA-256 is as announced" in shown
    assert "The first rows of Product_Export-1.csv:" in shown
    assert f"http://127.0.0.1:{port}/docs" in shown
    rows = int(re.findall(r"([\d,]+) rows; the SHA-256", shown)[0].replace(",", ""))
    assert 0 < rows < 2000  # one chain of two
    link = re.findall(r"(http://127.0.0.1:\d+)/docs", shown)[0]
    with closing(socket.create_server(("127.0.0.1", port))):
        second = demo(tmp_path, port)
        assert second.stdout is not None
        lines = iter(second.stdout.readline, "")
        said = []
        for line in lines:
            said.append(line)
            if "Ctrl-C ends it." in line:
                break
        text = "".join(said)
        assert "from last time" in text
        assert "Product_Export-2.csv" in text
        other = re.findall(r"(http://127.0.0.1:\d+)/docs", text)[0]
        assert other != link
        assert urllib3.request("GET", f"{other}/healthz", timeout=30).status == 200
        os.killpg(second.pid, signal.SIGINT)
        "".join(lines)
        second.stdout.close()
        assert second.wait(60) == 0
        eventually(lambda: not answers(other), what="the service is gone")


def answers(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/healthz", retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_the_service_of_a_killed_demo_ends_with_it(tmp_path: Path) -> None:
    process = demo(tmp_path, free_port())
    assert process.stdout is not None
    said = []
    for line in iter(process.stdout.readline, ""):
        said.append(line)
        if "Ctrl-C ends it." in line:
            break
    url = re.findall(r"(http://127.0.0.1:\d+)/docs", "".join(said))[0]
    process.kill()
    process.wait(30)
    process.stdout.close()
    eventually(lambda: not answers(url), timeout=60, what="the service is gone")
