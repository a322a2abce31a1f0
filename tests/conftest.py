"""What all tests share: the servers' fixtures and the closed network. See ``tests/servers/fixtures.py``."""

from __future__ import annotations

pytest_plugins = ["tests.servers.fixtures", "tests.databases"]
