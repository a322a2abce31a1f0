"""Benchmarks: ratios measured in one run on one machine, against peers and the physical limit."""
