"""The doctor finds nothing wrong with a service that works, on either stack, and follows a real signed link."""

from __future__ import annotations

import json

from tests.acceptance.service import Service

PARTS = {"database", "clock", "secret key", "source", "storage", "download link", "disk", "index products"}


def test_nothing_is_wrong_with_a_working_service(service: Service) -> None:
    shown = service.command("doctor", "--json", check=False)
    found = {finding["part"]: finding for finding in json.loads(shown.stdout)["findings"]}
    assert shown.returncode == 0, found
    assert found.keys() >= PARTS
    assert {finding["verdict"] for finding in found.values()} <= {"ok", "warning"}
    assert found["download link"]["detail"] == "A signed link was followed, and gave the object."
