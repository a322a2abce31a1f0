"""Everything an attempt has left in the storage, found and deleted.

What lives here: which objects belong to an attempt that has ended, and to a result. Who may be deleted, and when, is
the sweeper's and the API's to know. Called by sweeper.py, runner.py and api/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tasks_service.artifacts import objects_of
from tasks_service.storage import Storage

_ATTEMPT_FOLDER = re.compile(r"(?:.+/)?\d+-\d+")
"""`{attempt}-{lease token}`: an attempt's own folder, in which nobody else ever writes."""


def delete_attempt(storage: Storage, object_name: str) -> int:
    """Delete whatever lies in the folder of an attempt's object; return how much that was.

    Raises StorageUnavailableError, StorageError; what was deleted until then stays so.
    """
    folder = object_name.rpartition("/")[0]
    if not _ATTEMPT_FOLDER.fullmatch(folder):
        return int(storage.delete(object_name, generation=None))
    return delete_folder(storage, folder)


def delete_folder(storage: Storage, folder: str) -> int:
    """Delete whatever lies in a folder that nobody needs any more; return how much. Raises as `delete_attempt`."""
    found = list(storage.list(f"{folder}/"))
    return sum(storage.delete(one.name, generation=one.generation) for one in found)


def delete_result(storage: Storage, artifact: Mapping[str, Any]) -> int:
    """Delete the objects of a published result; return how many were still there. Raises as `delete_attempt`."""
    return delete_objects(storage, objects_of(artifact))


def delete_objects(storage: Storage, objects: Iterable[tuple[str, int | None]]) -> int:
    """Delete objects, each at its generation; return how many were still there."""
    return sum(storage.delete(name, generation=generation) for name, generation in objects)
