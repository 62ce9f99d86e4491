"""Runs that W&B could not receive yet: kept on storage that the user names, and uploaded later."""

from __future__ import annotations
