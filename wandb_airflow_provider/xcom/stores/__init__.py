"""Where values are kept: in W&B, or in an object store."""

from __future__ import annotations
