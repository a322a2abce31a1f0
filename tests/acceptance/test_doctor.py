"""The doctor finds nothing amiss with a service that works, on either stack, and follows a real signed link."""

from __future__ import annotations

import json

from tests.acceptance.service import Service

PARTS = {"database", "clock", "secret key", "source", "storage", "download link", "disk", "index products"}


def test_nothing_is_amiss_with_a_working_service(service: Service) -> None:
    shown = service.command("doctor", "--json", check=False)
    found = {finding["part"]: finding for finding in json.loads(shown.stdout)["findings"]}
    assert shown.returncode == 0, found
    assert found.keys() >= PARTS
    unwell = {part for part, finding in found.items() if finding["verdict"] != "ok"}
    # The full stack of the tests is one host without a key of its own; what disk there is is the machine's.
    full = service.environment["TASKS_DATABASE__URL"].startswith("postgresql")
    assert unwell - {"disk"} == ({"secret key"} if full else set()), found
    assert found["download link"]["detail"] == "A signed link was followed, and gave the object."
