"""The tests, by kind: unit, contract, property, golden, integration, acceptance, chaos, docs."""

from __future__ import annotations
