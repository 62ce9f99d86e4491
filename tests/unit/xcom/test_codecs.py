"""Each codec gives back what it was given: text, bytes, JSON, and what a deployment has registered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import BaseModel

from tests.unit.xcom.round_trip import some, stored, text
from wandb_airflow_provider.capabilities import serde
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.codecs import registry
from wandb_airflow_provider.xcom.codecs.base import Codec
from wandb_airflow_provider.xcom.codecs.registry import ENTRY_POINT_GROUP, codec_for, codec_named
from wandb_airflow_provider.xcom.settings import Limits

# Names with two underscores are what Airflow writes itself.
keys = text.filter(lambda key: key and not key.startswith("__"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


@some
@given(plain)
def test_json_comes_back(value: Any) -> None:
    assert stored(value, codec_named("json"))[0] == value


@some
@given(st.text())
def test_text_comes_back(value: str) -> None:
    assert stored(value, codec_named("text"))[0] == value


@some
@given(st.binary(), st.booleans())
def test_bytes_come_back_as_what_they_were(value: bytes, mutable: bool) -> None:
    given_value = bytearray(value) if mutable else value
    back, _ = stored(given_value, codec_named("bytes"))
    assert (type(back), back) == (type(given_value), given_value)


@dataclass
class Split:
    """What a task may return: fields of plain types."""

    name: str
    rows: list[int]
    share: float
    notes: dict[str, str]


class Model(BaseModel):
    """The same as a pydantic model, one in another."""

    title: str
    steps: list[int]
    best: float | None
    parts: dict[str, bool]


finite = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(Split, text, st.lists(st.integers()), finite, st.dictionaries(keys, text)) | st.builds(
    Model,
    title=text,
    steps=st.lists(st.integers()),
    best=st.none() | finite,
    parts=st.dictionaries(keys, st.booleans()),
)


@some
@given(st.lists(records, min_size=1, max_size=3))
def test_dataclasses_and_pydantic_models_come_back(values: list[Any]) -> None:
    # Which classes may come back is Airflow's to allow; it reads the option once, in whichever test asks first.
    allowed = re.compile(rf"{re.escape(__name__)}\..*")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serde(), "_get_regexp_patterns", lambda: [allowed])
        serde()._match_regexp.cache_clear()
        back, _ = stored(values, codec_named("json"))
    serde()._match_regexp.cache_clear()
    assert [type(item) for item in back] == [type(item) for item in values]
    assert back == values


class Pair:
    """A class that only a codec of the deployment's own knows."""

    def __init__(self, left: int, right: int) -> None:
        self.left, self.right = left, right


class PairCodec(Codec):
    """What a deployment may register."""

    name = "acme-pair"

    def accepts(self, value: Any) -> bool:
        return type(value) is Pair

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        (folder / "pair.txt").write_text(f"{value.left} {value.right}")
        return {"sum": value.left + value.right}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        back = Pair(*map(int, (folder / "pair.txt").read_text().split()))
        assert back.left + back.right == meta["sum"]
        return back


class TakenCodec(PairCodec):
    """One that would hide a codec of the package."""

    name = "pandas"


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """``entry_point("PairCodec")`` installs a distribution that registers a class of this module."""

    def install(name: str) -> None:
        info = tmp_path / "acme_codecs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-codecs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\npair = {__name__}:{name}\n")
        monkeypatch.syspath_prepend(tmp_path)
        registry._codecs.cache_clear()

    yield install
    monkeypatch.undo()
    registry._codecs.cache_clear()


def test_a_codec_of_an_entry_point_writes_and_reads(entry_point: Callable[[str], None]) -> None:
    assert codec_for(Pair(1, 2)) is None
    entry_point("PairCodec")
    assert codec_for(Pair(1, 2)).name == "acme-pair"
    back, _ = stored(Pair(1, 2))
    assert (back.left, back.right) == (1, 2)


def test_a_codec_of_an_entry_point_may_not_take_the_name_of_another(
    entry_point: Callable[[str], None],
) -> None:
    entry_point("TakenCodec")
    with pytest.raises(WandbConfigurationError, match="with a name other than"):
        codec_for(Pair(1, 2))
