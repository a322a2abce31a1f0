"""Groups about another index, as every source sees them: which indices they are about, their chain, their limit.

What lives here holds for every adapter: a linked group speaks of one chain like everything else, and may select so many
documents and no more. How keys are found and looked up is the adapters' own. Pure, but for the catalogues it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from segments import Catalog, Linked, SegmentError, Tree, all_of, equals, linked, with_parts
from tasks_service.config import IndexSettings
from tasks_service.errors import LinkLimitError, SourceError


@dataclass(frozen=True)
class Links:
    """The configured indices by name, and how many documents of one a linked group may select."""

    indices: Mapping[str, IndexSettings] = field(default_factory=dict[str, IndexSettings])
    most: int = 100_000

    def of(self, tree: Tree) -> dict[str, IndexSettings]:
        """Return the indices that the linked groups of a tree are about, by name. Raises SourceError."""
        names = dict.fromkeys(one.index for one in linked(tree))
        missing = [name for name in names if name not in self.indices]
        if missing:
            raise SourceError(f"The index {missing[0]!r} that a group is about is not configured.")
        return {name: self.indices[name] for name in names}

    def check(self, group: Linked, selected: int) -> None:
        """Raise LinkLimitError where a linked group selects more documents than it may."""
        if selected > self.most:
            raise LinkLimitError(
                f"The group about `{group.index}` selects {selected:,} documents, over the limit of {self.most:,} "
                "(limits.linked_documents); narrow its rules."
            )


class Catalogs(Mapping[str, Catalog]):
    """The catalogues of the configured indices by name, each read when it is asked for."""

    def __init__(self, links: Links, read: Callable[[IndexSettings], Catalog]) -> None:
        """Take the indices, and how the catalogue of one is read."""
        self._indices = links.indices
        self._read = read

    def __getitem__(self, name: str) -> Catalog:
        return self._read(self._indices[name])

    def __contains__(self, name: object) -> bool:
        return name in self._indices

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def chain_filter(index: IndexSettings, catalog: Catalog, chain: int) -> Tree:
    """Return the tree of the chain's documents. Raises SourceError."""
    try:
        return equals(catalog, index.chain_field, chain)
    except SegmentError as exc:
        raise SourceError(f"The index has no usable chain field {index.chain_field!r}.") from exc


def chained(own: Tree, tree: Tree, theirs: Mapping[str, Tree]) -> Tree:
    """Return the tree of one chain's documents, linked ones included; the filters stand outside the caller's rules.

    `own` is the index's chain filter, `theirs` those of the linked indices by name.
    """
    return all_of(own, with_parts(tree, lambda group: all_of(theirs[group.index], group.part)))
