"""The tests of the service, by kind: unit, contract, property, golden, integration, acceptance, chaos, docs."""

from __future__ import annotations
