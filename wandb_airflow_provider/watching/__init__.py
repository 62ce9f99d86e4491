"""What a change of an alias is, and how pollers and webhooks tell of it. Pure: no clock, no network."""

from __future__ import annotations
