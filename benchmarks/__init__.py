"""What the package costs, each figure a ratio of two things measured in turn in one run: ``python -m benchmarks``."""

from __future__ import annotations
