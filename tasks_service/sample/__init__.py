"""Sample data: six indices of two chains, the same on every machine, any number of rows.

``documents`` makes them, ``write_files`` lays them down as Parquet for the embedded default, ``load_elasticsearch``
puts them into a cluster with the mappings they need. Called by the command line, tests and benchmarks; the service
itself never imports it.
"""

from __future__ import annotations

from tasks_service.indices.fields import INDICES
from tasks_service.indices.mappings import mapping, structure
from tasks_service.sample.documents import documents, raw_documents, this_hour
from tasks_service.sample.files import write_files
from tasks_service.sample.loading import load_elasticsearch

__all__ = [
    "INDICES",
    "documents",
    "load_elasticsearch",
    "mapping",
    "raw_documents",
    "structure",
    "this_hour",
    "write_files",
]
