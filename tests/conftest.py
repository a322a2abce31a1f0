"""What all tests share: the servers' fixtures and the closed network. See ``tests/servers/fixtures.py``."""

from __future__ import annotations

from tasks_service import zones

zones.pin()

pytest_plugins = ["tests.servers.fixtures", "tests.databases"]
