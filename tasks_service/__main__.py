"""`python -m tasks_service`: the same command line as `tasks-service`."""

from __future__ import annotations

from tasks_service.cli import main

main()
