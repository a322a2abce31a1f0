"""A worker's end of its beater: starting it, telling it where the worker stands, hearing it, replacing it.

What lives here: the process and both pipes. What does not: what the beater does (beater.py), and what a worker makes of
what it hears (lease.py). One link a worker process, for its life. Used by cli/processes.py.

Nothing here waits for the beater, which may hang: pipes do not block, and one that is full belongs to a beater that has
not read for minutes, which is replaced. Every line tells the whole state, so the next one mends what was lost.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import IO, Any

import structlog

from tasks_service.beats import Heard, Hold, Standing
from tasks_service.config import Settings

log = structlog.stdlib.get_logger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0
_END_SECONDS = 5.0
_READY_LOOK_SECONDS = 0.1
_LINE = 64 * 1024


class BeaterLink:
    """The beater of this process. Call it with a hold to have that renewed (`beats.Beater`)."""

    def __init__(self, settings: Settings) -> None:
        """Start the beater; it is ready a second later."""
        self._first = {
            "service": settings.service.model_dump(mode="json", include={"state_directory", "log_format", "log_level"}),
            "database": {
                "url": settings.database.url.get_secret_value(),  # by the pipe, which nobody else sees
                "pool_size": 2,  # one, and one for a new hold while a heartbeat of the last one hangs
            },
            "worker": settings.worker.model_dump(mode="json"),
        }
        self._lock = threading.RLock()
        self._number = 0
        self._hold: Hold | None = None
        self._standing: Standing | None = None
        self._heard: Heard | None = None
        self._rest = b""
        self._failures = 0
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="beater-link", daemon=True)
        self._keeper.start()

    def __call__(self, hold: Hold, standing: Standing, heard: Heard) -> BeaterLink:
        """Have a hold renewed; the one before it has ended."""
        with self._lock:
            self._number += 1
            self._hold, self._standing, self._heard = hold, standing, heard
            self._tell()
        return self

    def wait_until_ready(self, stop: threading.Event) -> None:
        """Wait until the beater beats, or `stop` is set: a claim made before would go without a heartbeat."""
        while not self._ready.wait(_READY_LOOK_SECONDS) and not stop.is_set():
            pass

    def say(self, standing: Standing) -> None:
        """Tell the beater where the worker stands by now."""
        with self._lock:
            self._standing = standing
            self._tell()

    def listen(self) -> None:
        """Hand over what the beater has answered, without waiting."""
        with self._lock:
            try:
                while piece := os.read(_descriptor(self._process.stdout), _LINE):
                    *lines, self._rest = (self._rest + piece).split(b"\n")
                    for line in lines:
                        self._hear(json.loads(line))
            except BlockingIOError:
                pass

    def end(self) -> None:
        """Have the hold renewed no more."""
        with self._lock:
            self._hold = self._standing = self._heard = None
            self._tell()

    def close(self) -> None:
        """End the beater."""
        self._closing.set()
        with self._lock:
            _close(self._process)
        self._keeper.join(_END_SECONDS)
        _pipe(self._process.stdout).close()

    def _hear(self, answer: dict[str, Any]) -> None:
        if answer["word"] == "ready":
            self._failures = 0
            self._ready.set()
        elif answer["number"] == self._number and self._heard is not None:  # else of a hold that has ended
            self._heard(answer["word"], answer["at"])

    def _tell(self) -> None:
        """Write one line with all there is to know; less than a pipe takes in one piece."""
        hold, standing = self._hold, self._standing
        state = {
            "number": self._number,
            "hold": hold and asdict(hold),
            "standing": standing and asdict(standing),
        }
        try:
            os.write(_descriptor(self._process.stdin), json.dumps(state).encode() + b"\n")
        except BlockingIOError:
            log.warning("beater.hangs", pid=self._process.pid)
            self._process.kill()
        except BrokenPipeError:
            pass  # it has ended: the next one is told

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            (sys.executable, "-m", "tasks_service.beater"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        for pipe in (process.stdin, process.stdout):
            os.set_blocking(_descriptor(pipe), False)
        os.write(_descriptor(process.stdin), json.dumps(self._first).encode() + b"\n")
        log.info("beater.started", pid=process.pid)
        return process

    def _keep(self) -> None:
        """Read what comes while the worker does not, and start another beater when this one has ended."""
        while not self._closing.is_set():
            select.select([_descriptor(self._process.stdout)], [], [], 1.0)
            self.listen()
            if self._process.poll() is not None and not self._closing.is_set():
                self._replace()

    def _replace(self) -> None:
        log.warning("beater.ended", pid=self._process.pid, code=self._process.returncode)
        self._failures += 1
        if self._closing.wait(min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures - 1, 30))):
            return
        with self._lock:
            ended = self._process
            try:
                self._process, self._rest = self._start(), b""
            except OSError as error:  # no memory, no process: tried again; meanwhile leases run out, which is safe
                log.warning("beater.not_started", error=error.strerror)
                return
            _close(ended)
            _pipe(ended.stdout).close()
            self._tell()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("a beater is started with both pipes")
    return pipe


def _descriptor(pipe: IO[bytes] | None) -> int:
    return _pipe(pipe).fileno()


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe to a beater, upon which it ends, and see it end."""
    _pipe(process.stdin).close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
