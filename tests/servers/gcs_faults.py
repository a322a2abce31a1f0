"""What a test may do to the storage in front of the emulator: faults, gates, and the clock of signed links.

Operations are named ``upload.start`` (of a resumable session), ``upload.chunk``, ``upload.status``,
``upload.whole`` (media and multipart), ``object.get``, ``object.patch``, ``object.delete``, ``object.list``,
``object.compose``, ``object.rewrite``, ``object.download``, ``bucket``, ``bucket.permissions``, ``signed``,
``token``, ``sign_blob`` and ``metadata``; a fault takes a pattern of them (``upload.*``).
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import threading
from dataclasses import dataclass, field

GATE_SECONDS = 120.0


@dataclass(slots=True)
class Fault:
    """One thing that will go wrong.

    Attributes:
        operations: the pattern of the operations it strikes.
        left: how many more times.
        skip: how many matching requests pass before.
        status: answered instead of doing the operation; 0 for the other kinds.
        message: of that answer.
        changes: members of the JSON answer that are not what they should be.
        lose_answer: do the operation, then reset the connection instead of answering.
        reset_after: bytes of the request (an upload) or of the answer (a download) after which the connection
            is reset; None for never.
    """

    operations: str
    left: int = 1
    skip: int = 0
    status: int = 0
    message: str = "a fault of the test"
    changes: dict[str, object] = field(default_factory=dict)
    lose_answer: bool = False
    reset_after: int | None = None


@dataclass(slots=True)
class Gate:
    """A request held at the door: wait for ``reached``, look around, then ``release()``."""

    operations: str
    skip: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the held request, and all after it, go on."""
        self.opened.set()


class Faults:
    """The faults and gates to come, and what was asked so far. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []
        self._seen: list[tuple[str, object]] = []

    def fail(
        self,
        operations: str,
        *,
        status: int = 503,
        times: int = 1,
        skip: int = 0,
        message: str = "a fault of the test",
    ) -> None:
        """Answer an error ``times`` times, after ``skip`` requests that pass; nothing is done then."""
        self._add(Fault(operations, left=times, skip=skip, status=status, message=message))

    def misreport(self, operations: str, changes: dict[str, object], *, times: int = 1, skip: int = 0) -> None:
        """Do what is asked, but answer these members of the JSON instead of the true ones."""
        self._add(Fault(operations, left=times, skip=skip, changes=changes))

    def lose_answer(self, operations: str, *, times: int = 1, skip: int = 0) -> None:
        """Do what is asked, then reset the connection: the client cannot know that it worked."""
        self._add(Fault(operations, left=times, skip=skip, lose_answer=True))

    def reset(self, operations: str, *, after: int, times: int = 1, skip: int = 0) -> None:
        """Reset the connection after so many bytes of an upload's body or of a download's answer."""
        self._add(Fault(operations, left=times, skip=skip, reset_after=after))

    def hold(self, operations: str, *, skip: int = 0) -> Gate:
        """Hold the next matching request (after ``skip`` others) until the gate is released."""
        gate = Gate(operations, skip)
        with self._lock:
            self._gates.append(gate)
        return gate

    def clear(self) -> None:
        """Forget all faults and what was seen; open all gates."""
        with self._lock:
            for gate in self._gates:
                gate.release()
            self._gates.clear()
            self._faults.clear()
            self._seen.clear()

    def count(self, operations: str = "*") -> int:
        """How many requests of such operations came since the last ``clear()``."""
        with self._lock:
            return sum(fnmatch.fnmatchcase(operation, operations) for operation, _ in self._seen)

    def connections(self, operations: str = "*") -> int:
        """Over how many connections such requests came since the last ``clear()``."""
        with self._lock:
            return len({peer for operation, peer in self._seen if fnmatch.fnmatchcase(operation, operations)})

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def meet(self, operation: str, peer: object) -> Fault | None:
        """Called by the front for each request: note it, hold it at a gate, return what strikes it."""
        with self._lock:
            self._seen.append((operation, peer))
            gate = next((gate for gate in self._gates if _strikes(gate, operation)), None)
            fault = next((fault for fault in self._faults if _strikes(fault, operation)), None)
            if fault:
                fault.left -= 1
                if not fault.left:
                    self._faults.remove(fault)
        if gate:
            gate.reached.set()
            gate.opened.wait(GATE_SECONDS)
        return fault


def _strikes(what: Fault | Gate, operation: str) -> bool:
    if not fnmatch.fnmatchcase(operation, what.operations):
        return False
    if isinstance(what, Gate) and what.opened.is_set():
        return False  # the next request meets the next gate
    if what.skip:
        what.skip -= 1
        return False
    return True


class Clock:
    """The clock by which the storage judges signed links: real time plus what a test added."""

    def __init__(self) -> None:
        self._ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        """The instant it is for the storage, in UTC."""
        return dt.datetime.now(dt.UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds (back, if negative)."""
        self._ahead += dt.timedelta(seconds=seconds)

    def reset(self) -> None:
        """Back to real time."""
        self._ahead = dt.timedelta()
