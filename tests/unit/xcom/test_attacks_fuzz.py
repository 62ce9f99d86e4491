"""Stored values and references that are changed at random: read as they were, or refused, and nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings

from tests.unit.xcom.forgery import pull
from tests.unit.xcom.round_trip import stored
from wandb_airflow_provider.exceptions import WandbXComIntegrityError, WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.registry import codec_named
from wandb_airflow_provider.xcom.index import INDEX_NAME, Index, digest_of
from wandb_airflow_provider.xcom.reference import StoredReference, is_reference
from wandb_airflow_provider.xcom.workspace import passing_folder

# The same examples each time: what libraries make of broken files is theirs, and differs with their releases.
few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Kept:
    """A class that the deployment lets be pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Sample(NamedTuple):
    """A value as it is in a store."""

    index: dict[str, Any]
    files: dict[str, bytes]

    def __repr__(self) -> str:
        return f"<{self.index.get('codec')!r:.40}>"

    @property
    def digest(self) -> str:
        """What the reference says."""
        return digest_of(written(self.index))


def model() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [1.0], [2.0]], [0, 1, 1])


def frame() -> pd.DataFrame:
    made = pd.DataFrame(
        {
            "number": np.arange(1500) % 200,
            "word": pd.Series(["a", None, "c"] * 500, dtype="str"),
            "kind": pd.Categorical(["x", "y", "x"] * 500),
            "list": pd.Series([[1], None, []] * 500, dtype=object),
        },
        index=pd.MultiIndex.from_product([range(3), pd.date_range("2026-01-01", periods=500, freq="D")]),
    )
    made.attrs["unit"] = "m"
    return made


VALUES: dict[str, Callable[[], Any]] = {
    "pandas": frame,
    "polars": lambda: pl.DataFrame({"a": [1, None], "b": ["a long text, no view", "x"], "c": [[1], []]}),
    "arrow": lambda: pa.table(
        {"a": [1, None], "b": ["x", "y"], "c": pa.array(["x", "y"]).dictionary_encode()}
    ),
    "numpy": lambda: np.arange(6.0).reshape(2, 3),
    "sparse": lambda: scipy.sparse.csr_array(np.eye(3)),
    "safetensors": lambda: {"w": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2])},
    "skops": model,
    "bytes": lambda: b"some bytes",
    "text": lambda: "some täxt",
    "pickle": lambda: Kept([1, "a" * 300, {"b": (None, 2.5)}]),
    "json": lambda: {"a": [1, None, "b"], "t": (1, "c")},
}


def written(index: Any) -> bytes:
    return json.dumps(index, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sample]]:
    """A value of each codec, in a deployment that keeps values in a folder."""
    found = {}
    base = tmp_path_factory.mktemp("fuzz")
    path = base / "data"
    (path / "inner" / "empty").mkdir(parents=True)
    (path / "inner" / "a.txt").write_text("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__WANDB_XCOM__STORAGE", str(base / "store"))
        patch.setenv("AIRFLOW__WANDB_XCOM__PICKLE_CLASSES", f"{Kept.__module__}.Kept")
        for name, make in {**VALUES, "path": lambda: path}.items():
            with passing_folder() as stage:
                staged = codec_named(name).stage(make(), stage)
                index = Index.of(name, staged.meta, staged.root, staged.files, staged.folders)
                files = {file: (staged.root / file).read_bytes() for file in index.files}
                made = found[name] = Sample(json.loads(index.to_bytes()), files)
            assert stored(read(made, reference(made)), codec_named(name))[1] == made.digest
        yield found


def reference(sample: Sample) -> dict[str, Any]:
    """Return the reference to a value in the store."""
    store = f"file://{os.environ['AIRFLOW__WANDB_XCOM__STORAGE']}"
    return StoredReference(sample.digest, sample.index["codec"], "fuzz", 1, 1, store=store).to_json()


def plant(sample: Sample, ref: dict[str, Any]) -> None:
    """Put something, and nothing else, where a reference leads to."""
    store = Path(os.environ["AIRFLOW__WANDB_XCOM__STORAGE"])
    place = store / "fuzz" / ref["digest"].removeprefix("sha256:")
    shutil.rmtree(store, ignore_errors=True)
    for path, content in {**sample.files, INDEX_NAME: written(sample.index)}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)


def read(sample: Sample, ref: dict[str, Any]) -> Any:
    """
    Read what a reference leads to.

    :param sample: What is found there.
    """
    plant(sample, ref)
    with warnings.catch_warnings():
        # Outside of tests a warning is no error.
        warnings.simplefilter("ignore")
        return pull(ref)


junk = st.one_of(
    st.sampled_from(
        [None, True, False, -1, 0, 1, 2**31, 2**63, 2**70, 1.5, float("inf"), "", "x" * 300, "\ud800", "../x"]
    ),
    st.sampled_from(
        [[], {}, [[]], {"": None}, [0, 1, 2], ["0"], "0", "range", "csr_array", "object", "numpy"]
    ),
)


@st.composite
def changed_bytes(draw: Any, content: bytes) -> bytes:
    """Return content that is cut off, has other bits, or more bytes."""
    at = draw(st.integers(0, max(0, len(content) - 1)))
    match draw(st.sampled_from(["cut", "flip", "add", "zero"])):
        case "cut":
            return content[:at]
        case "flip":
            return (
                content[:at]
                + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[at : at + 1])
                + content[at + 1 :]
            )
        case "add":
            return content[:at] + draw(st.binary(min_size=1, max_size=9)) + content[at:]
        case _:
            return content[:at] + bytes(len(content[at : at + 8])) + content[at + 8 :]


@st.composite
def changed_json(draw: Any, value: Any) -> Any:
    """Return JSON in which one value is another one, or gone."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        made = copy.copy(value)
        if draw(st.integers(0, 5)):
            made[key] = draw(changed_json(value[key]))
        else:
            del made[key]
        return made
    return draw(junk)


@st.composite
def changed(draw: Any, sample: Sample) -> Sample:
    """Return a value whose index, or one of whose files, is another one, or gone."""
    index, files = copy.deepcopy(sample.index), dict(sample.files)
    if not files or draw(st.booleans()):
        index["meta"] = draw(changed_json(index["meta"]))
    else:
        name = draw(st.sampled_from(sorted(files)))
        if draw(st.integers(0, 9)):
            files[name] = draw(changed_bytes(files[name]))
        else:
            del files[name]
    return Sample(index, files)


def with_facts(sample: Sample) -> Sample:
    """Return a value whose index has what its files are, as someone writes it who wants it to be read."""
    facts = {
        path: [len(content), hashlib.sha256(content).hexdigest(), 0o600]
        for path, content in sample.files.items()
    }
    return Sample({**sample.index, "files": facts}, sample.files)


CODECS = [*VALUES, "path"]


@few
@given(data=st.data())
@pytest.mark.parametrize("codec", CODECS)
def test_what_was_changed_in_a_store_is_read_as_it_was_or_not_at_all(
    samples: dict[str, Sample], codec: str, data: Any
) -> None:
    sample = samples[codec]
    other = st.builds(Sample, changed_json(sample.index), st.just(sample.files)) | changed(sample)
    try:
        back = read(data.draw(other), reference(sample))
    except (WandbXComRefusedError, WandbXComIntegrityError):
        return
    assert stored(back, codec_named(codec))[1] == sample.digest


@settings(parent=few, max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("codec", CODECS)
def test_what_was_forged_with_all_its_digests_is_read_or_refused(
    samples: dict[str, Sample], codec: str, data: Any
) -> None:
    forged = with_facts(data.draw(changed(samples[codec])))
    with suppress(WandbXComRefusedError, WandbXComIntegrityError):
        read(forged, reference(forged))


@settings(parent=few, max_examples=100)
@given(data=st.data())
def test_a_reference_that_was_changed_leads_to_the_value_or_nowhere(
    samples: dict[str, Sample], data: Any
) -> None:
    sample = samples["text"]
    ref = data.draw(changed_json(reference(sample)))
    if not is_reference(ref):
        return
    plant(sample, reference(sample))
    try:
        back = pull(ref)
    except (WandbXComRefusedError, WandbXComIntegrityError):
        return
    assert back == "some täxt"
