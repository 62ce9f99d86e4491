"""A value as a task that reads it gets it, without a server."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

from wandb_airflow_provider.xcom.codecs.base import Codec
from wandb_airflow_provider.xcom.codecs.registry import codec_for, codec_named, json_codec
from wandb_airflow_provider.xcom.index import Index, digest_of
from wandb_airflow_provider.xcom.settings import Limits
from wandb_airflow_provider.xcom.workspace import lasting_folder, passing_folder

LIMITS = Limits(1 << 30, 10_000)
some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def stored(value: Any, codec: Codec | None = None) -> tuple[Any, str]:
    """Return a value as a reader gets it, and the digest of what was written."""
    codec = codec or codec_for(value) or json_codec(value)
    with passing_folder() as folder:
        staged = codec.stage(value, folder)
        index = Index.of(codec.name, staged.meta, staged.root, staged.files, staged.folders)
        content = index.to_bytes()
        back = Index.from_bytes(content, digest_of(content), LIMITS, "a value")
        assert back == index
        copy = lasting_folder() / "content"
        copy.mkdir()
        for path in index.folders:
            (copy / path).mkdir(parents=True, exist_ok=True)
        for path in index.files:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).write_bytes((staged.root / path).read_bytes())
        if codec.keeps_folder:
            index.restore_modes(copy)
        return codec_named(codec.name).read(copy, back.meta, LIMITS), digest_of(content)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
