"""Operations and root fields that are answered in part, and how far: one sentence each, for the table in the docs."""

from __future__ import annotations

PARTIAL: dict[str, str] = {
    "CreateArtifactFiles": "uploads are single requests, never multipart;",
    "FetchArtifactDigestAlgorithm": "always MD5, to which the SDK falls back from XXH128;",
    "NotifyScriptableRunAlert": "recorded and shown, not sent;",
    "UpsertSweep": "no `method: custom`, no local controllers;",
}
