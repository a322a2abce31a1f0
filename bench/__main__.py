"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

from bench import export

if __name__ == "__main__":
    export.main()
