"""The supervisor's arithmetic; what it does with real processes is in tests/integration/test_processes.py."""

from __future__ import annotations

from tasks_service.supervisor import restart_delay


def test_restarts_wait_longer_each_time_up_to_a_cap() -> None:
    delays = [restart_delay(failures) for failures in range(1, 12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays == sorted(delays)
    assert delays[-1] == 30.0
    assert restart_delay(10_000) == 30.0
