"""Fixtures of the API's installation, for the tests of the contract that need one."""

from __future__ import annotations

from tests.unit.api.conftest import contract, migrated, operator, partner, world

__all__ = ["contract", "migrated", "operator", "partner", "world"]
