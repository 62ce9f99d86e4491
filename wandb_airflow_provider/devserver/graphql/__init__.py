"""GraphQL over plain resolver functions: no schema, so a new SDK field is never a failure."""

from __future__ import annotations
