"""Reports on a candidate: what was found, as a document, and how it is written. Pure, but for ``save``."""

from __future__ import annotations
