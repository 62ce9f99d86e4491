"""The XCom backend: large values become W&B artifacts, with lineage between the tasks that pass them."""

from __future__ import annotations
