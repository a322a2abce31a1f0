"""Real servers for the tests: Elasticsearch, PostgreSQL and an emulator of Google Cloud Storage.

Each runs on loopback, on a free port, once for a whole test run however many pytest workers there are, and
ends with the run however the run ended. ``fixtures`` is what tests use; ``prepare`` fetches the parts ahead
of time; ``python -m tests.servers.elasticsearch`` runs one server by hand.
"""

from __future__ import annotations
