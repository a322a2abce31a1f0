"""The six indices of the retail platform as data: their fields, and index templates under which every rule is exact.

What lives here: one description of every field (``fields``), the Elasticsearch mappings, DuckDB structures and index
templates made from it, and what to say of an index that is mapped otherwise. No I/O but reading the package's own
files: the calls to Elasticsearch are in sources/. Called by the command line and by the sample data.
"""

from __future__ import annotations

from tasks_service.indices.fields import INDICES
from tasks_service.indices.mappings import mapping, structure

__all__ = ["INDICES", "mapping", "structure"]
