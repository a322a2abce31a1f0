"""Scheduled and on-demand exports: tasks over HTTP, files in object storage."""

from __future__ import annotations

__version__ = "0.1.0"
