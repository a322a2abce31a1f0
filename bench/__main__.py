"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

from bench import export, segments

if __name__ == "__main__":
    export.main()
    segments.main([])
