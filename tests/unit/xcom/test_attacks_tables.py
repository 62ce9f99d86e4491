"""Tables that someone planted: each is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.unit.xcom.forgery import LIMITS, Forge, pull
from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.registry import codec_named


def stream(table: pa.Table, path: Path, compression: str | None = None) -> bytes:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(str(path), table.schema, options=options) as writer:
        writer.write_table(table)
    return path.read_bytes()


@pytest.mark.parametrize("codec", ["pandas", "arrow"])
def test_a_table_that_unpacks_to_more_than_its_index_says_is_refused(tmp_path: Path, codec: str) -> None:
    bomb = stream(pa.table({"a": ["x" * (64 << 20)]}), tmp_path / "table.arrows", "zstd")
    assert len(bomb) < 10_000
    for meta in ({"unpacked_bytes": 5000}, {}):
        with pytest.raises(
            WandbXComRefusedError, match=f"it unpacks to {(64 << 20) + 8} bytes, more than the"
        ):
            codec_named(codec).read(tmp_path, meta, LIMITS)


@pytest.mark.parametrize("codec", ["pandas", "arrow"])
def test_a_table_with_a_dictionary_that_unpacks_to_more_is_refused(tmp_path: Path, codec: str) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(["x" * (1 << 20)]))
    assert len(stream(pa.table({"a": words}), tmp_path / "table.arrows", "zstd")) < 10_000
    with pytest.raises(WandbXComRefusedError, match="more than the 5000 that its index says"):
        codec_named(codec).read(tmp_path, {"unpacked_bytes": 5000}, LIMITS)


@pytest.mark.parametrize("codec", ["pandas", "polars", "arrow"])
def test_many_columns_of_one_stretch_of_a_table_count_each(tmp_path: Path, codec: str) -> None:
    content = stream(pa.table({f"c{n}": [n] * 100 for n in range(50)}), tmp_path / "table.arrows")
    for number in range(1, 50):
        # Places and lengths: of no validity, and of the numbers, which are made those of the first column.
        place = struct.pack("<qqqq", number * 800, 0, number * 800, 800)
        assert content.count(place) == 1
        content = content.replace(place, struct.pack("<qqqq", 0, 0, 0, 800))
    (tmp_path / "table.arrows").write_bytes(content)
    with pytest.raises(WandbXComRefusedError, match="it unpacks to 40000 bytes"):
        codec_named(codec).read(tmp_path, {"unpacked_bytes": 39_999}, LIMITS)


@pytest.mark.parametrize("codec", ["pandas", "arrow"])
def test_a_buffer_that_is_not_what_it_says_is_refused(tmp_path: Path, codec: str) -> None:
    numbers = np.arange(1000) // 100
    content = stream(pa.table({"a": numbers}), tmp_path / "table.arrows", "zstd")
    meta = {"unpacked_bytes": 1 << 20}
    said = struct.pack("<q", numbers.nbytes)
    assert content.count(said) == 1
    for size in (numbers.nbytes - 8, numbers.nbytes + 8, -2, 1 << 62):
        (tmp_path / "table.arrows").write_bytes(content.replace(said, struct.pack("<q", size)))
        with pytest.raises(WandbXComRefusedError):
            codec_named(codec).read(tmp_path, meta, LIMITS)
    (tmp_path / "table.arrows").write_bytes(content.replace(said + b"\x28\xb5\x2f\xfd", said + bytes(4)))
    with pytest.raises(WandbXComRefusedError):
        codec_named(codec).read(tmp_path, meta, LIMITS)


PANDAS = {
    "series": False,
    "attrs": {},
    "index": {"names": [None], "levels": 0, "freq": [], "range": [0, 9, 1]},
    "categories": {},
    "arrow": [],
    "narrow": {},
    "repeated": [],
    "labels": {"range": [0, 1, 1], "names": [None]},
}


@pytest.mark.parametrize("codec", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("rows", [1001, 50_000])
@pytest.mark.parametrize(
    "values", [np.arange(1000), ["text"] * 1000, pd.Categorical([f"c{n}" for n in range(500)] * 2)]
)
def test_a_table_of_more_rows_than_its_buffers_have_is_refused(
    tmp_path: Path, codec: str, rows: int, values: Any
) -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"0": values})).replace_schema_metadata(None)
    content = stream(table, tmp_path / "table.arrows")
    assert content.count(struct.pack("<q", 1000)) in (2, 3)
    (tmp_path / "table.arrows").write_bytes(content.replace(struct.pack("<q", 1000), struct.pack("<q", rows)))
    with pytest.raises(WandbXComRefusedError):
        codec_named(codec).read(tmp_path, {**PANDAS, "unpacked_bytes": 1 << 20}, LIMITS)


def test_categories_that_are_not_there_are_refused(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0, 9], pa.int8()), pa.array(["a"]), safe=False)
    stream(pa.table({"0": words}), tmp_path / "table.arrows")
    for codec in ("pandas", "arrow"):
        with pytest.raises(WandbXComRefusedError):
            codec_named(codec).read(tmp_path, {**PANDAS, "unpacked_bytes": 5000}, LIMITS)


@pytest.mark.parametrize("codec", ["pandas", "polars", "arrow"])
def test_a_table_that_is_compressed_otherwise_is_refused(tmp_path: Path, codec: str) -> None:
    stream(pa.table({"a": [0] * 1000}), tmp_path / "table.arrows", "lz4")
    with pytest.raises(WandbXComRefusedError, match="it is compressed by the codec 0"):
        codec_named(codec).read(tmp_path, {"unpacked_bytes": 1 << 20}, LIMITS)


def test_a_frame_whose_columns_are_not_what_pandas_wrote_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"0": [1.0]}))
    schema = pa.schema([table.schema.field(0)] * 2, table.schema.metadata)
    stream(pa.Table.from_arrays([table["0"]] * 2, schema=schema), tmp_path / "table.arrows")
    with pytest.raises(WandbXComRefusedError, match="several columns of one name"):
        codec_named("pandas").read(tmp_path, {**PANDAS, "unpacked_bytes": 1000}, LIMITS)


LARGE = "S1000000000"


def written(frame: pd.DataFrame, folder: Path) -> dict[str, Any]:
    return {**codec_named("pandas").write(frame, folder)}


def test_a_stored_name_of_a_type_reaches_no_conversion(tmp_path: Path) -> None:
    words = pd.CategoricalIndex(pd.Index(["a", "b"], dtype=object))
    for number, (frame, place) in enumerate(
        [
            (pd.DataFrame({"c": words}), ("categories", "0")),
            (pd.DataFrame({"c": [1, 2]}, index=words), ("categories", "level 0")),
            (pd.DataFrame([[1, 2]], columns=words), ("labels", "categories", "0")),
            (pd.DataFrame({"c": [1]}), ("labels",)),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        meta = json.loads(json.dumps(written(frame, folder)))
        assert codec_named("pandas").read(folder, meta, LIMITS).shape == frame.shape
        fact = meta
        for name in place:
            fact = fact[name]
        fact["dtype"] = LARGE
        with pytest.raises(WandbXComRefusedError):
            codec_named("pandas").read(folder, meta, LIMITS)


@pytest.mark.parametrize(
    "about",
    [
        {"column_indexes": [{"name": None, "field_name": None, "pandas_type": "bytes", "numpy_type": LARGE}]},
        {"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 3, "step": 1}]},
        {"index_columns": ["0"]},
    ],
)
def test_of_the_metadata_of_a_table_only_known_types_of_columns_count(tmp_path: Path, about: Any) -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"0": pd.array([1, None, 3], dtype="Int64")}))
    metadata = {**json.loads(table.schema.metadata[b"pandas"]), **about}
    metadata["columns"][0]["metadata"] = {"timezone": "../../etc"}
    stream(
        table.replace_schema_metadata({"pandas": json.dumps(metadata)}),
        tmp_path / "table.arrows",
    )
    meta = {**PANDAS, "index": {**PANDAS["index"], "range": [0, 3, 1]}, "unpacked_bytes": 1000}  # type: ignore[dict-item]
    back = codec_named("pandas").read(tmp_path, meta, LIMITS)
    pd.testing.assert_frame_equal(
        back, pd.DataFrame({0: pd.array([1, None, 3], dtype="Int64")}), check_column_type=False
    )


@pytest.mark.parametrize("columns", [[{}], [{"field_name": "0", "numpy_type": 3}], 7, [7]])
def test_metadata_of_a_table_that_is_none_of_pandas_is_refused(tmp_path: Path, columns: Any) -> None:
    table = pa.table({"0": [1.5]}, metadata={"pandas": json.dumps({"columns": columns})})
    stream(table, tmp_path / "table.arrows")
    with pytest.raises(WandbXComRefusedError, match="its metadata has"):
        codec_named("pandas").read(tmp_path, {**PANDAS, "unpacked_bytes": 1000}, LIMITS)


@pytest.mark.parametrize(
    ("name", "about", "why"),
    [
        ("narrow", {"0": [0, 1]}, "begins at"),
        ("narrow", {"0": [2**63, 1, False]}, "begins at"),
        ("narrow", {"0": [0, 10**18, False]}, "begins at"),
        ("narrow", {"0": [0, 1, 1]}, "begins at"),
        ("narrow", {"1": [0, 1, False]}, "that are not"),
        ("narrow", {"9": [0, 1, False]}, "that are not"),
        ("narrow", 7, "not iterable"),
        ("repeated", ["9"], "that are not"),
        ("repeated", ["0"], "that are not"),
        ("repeated", ["2"], "repeats nothing"),
        ("repeated", 7, "not iterable"),
        ("unpacked_bytes", 100_000, "columns grow by"),
        ("unpacked_bytes", 300_000, "columns grow by"),
    ],
)
def test_what_is_said_of_narrow_and_repeated_columns_is_checked(
    tmp_path: Path, name: str, about: Any, why: str
) -> None:
    frame = pd.DataFrame(
        {
            "narrow": np.arange(5000) % 200,
            "text": pd.Series(["a long text " * 9, "b"] * 2500, dtype="str"),
            "plain": pd.Series([f"text {n}" for n in range(5000)], dtype="str"),
        }
    )
    meta = written(frame, tmp_path)
    assert (list(meta["narrow"]), meta["repeated"]) == (["0"], ["1"])
    pd.testing.assert_frame_equal(codec_named("pandas").read(tmp_path, meta, LIMITS), frame)
    with pytest.raises(WandbXComRefusedError, match=why):
        codec_named("pandas").read(tmp_path, {**meta, name: about}, LIMITS)


def test_a_range_that_is_longer_than_the_columns_is_refused(tmp_path: Path) -> None:
    meta = written(pd.DataFrame({"c": [1, 2]}), tmp_path)
    with pytest.raises(WandbXComRefusedError, match="Length mismatch"):
        codec_named("pandas").read(
            tmp_path, {**meta, "index": {**meta["index"], "range": [0, 10**15, 1]}}, LIMITS
        )
    for levels in (1, 3):
        with pytest.raises(WandbXComRefusedError, match="its index has the levels"):
            codec_named("pandas").read(
                tmp_path, {**meta, "index": {**meta["index"], "levels": levels}}, LIMITS
            )


def packed(content: bytes, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as target:
        target.write(content)


def test_a_file_that_unpacks_to_more_than_its_index_says_is_refused(tmp_path: Path) -> None:
    packed(bytes(64 << 20), tmp_path / "table.arrows.zst")
    assert (tmp_path / "table.arrows.zst").stat().st_size < 10_000
    for meta in ({"unpacked_bytes": 5000}, {}):
        with pytest.raises(WandbXComRefusedError, match="it unpacks to more than the"):
            codec_named("polars").read(tmp_path, meta, LIMITS)
        assert (tmp_path / "table.arrows").stat().st_size <= 5000


@pytest.mark.parametrize("content", [b"no zstd at all", b"\x28\xb5\x2f\xfd" + bytes(20)])
def test_a_file_that_cannot_be_unpacked_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.arrows.zst").write_bytes(content)
    with pytest.raises(WandbXComRefusedError, match="cannot be unpacked"):
        codec_named("polars").read(tmp_path, {"unpacked_bytes": 5000}, LIMITS)


def test_a_polars_frame_whose_buffers_are_compressed_is_refused(tmp_path: Path) -> None:
    stream(pa.table({"a": [0] * 1000}), tmp_path / "table.arrows", "zstd")
    with pytest.raises(WandbXComRefusedError, match="its buffers are compressed"):
        codec_named("polars").read(tmp_path, {"unpacked_bytes": 1 << 20}, LIMITS)


@pytest.mark.parametrize("unpacked", [1 << 60, -1, True, "9", None, [1]])
def test_an_index_that_says_too_much_of_what_it_unpacks_to_is_refused(forge: Forge, unpacked: Any) -> None:
    raw = forge({"codec": "arrow", "meta": {"unpacked_bytes": unpacked}}, {"table.arrows": b""})
    with pytest.raises(WandbXComRefusedError, match=r"are accepted|cannot be understood"):
        pull(raw)


def test_what_values_unpack_to_counts_together(
    forge: Forge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__MAX_VALUE_BYTES", "3000")
    body = stream(pa.table({"a": [0] * 200}), tmp_path / "packed", "zstd")
    raw = forge({"codec": "arrow", "meta": {"unpacked_bytes": 1600}}, {"table.arrows": body})
    assert pull(raw).num_rows == 200
    with pytest.raises(WandbXComRefusedError, match="are accepted"):
        pull([raw, raw])


@pytest.mark.parametrize("codec", ["pandas", "polars", "arrow"])
def test_a_table_of_an_old_version_is_refused(tmp_path: Path, codec: str) -> None:
    table = pa.table({"a": [1, 2]})
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(str(tmp_path / "table.arrows"), table.schema, options=options) as writer:
        writer.write_table(table)
    with pytest.raises(WandbXComRefusedError, match="a message of version 4"):
        codec_named(codec).read(tmp_path, {"unpacked_bytes": 1000}, LIMITS)


@pytest.mark.parametrize("place", ["others", "nested", "table"])
def test_a_column_of_objects_whose_rows_share_a_category_is_refused(tmp_path: Path, place: str) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 9, pa.int8()), pa.array(["x" * 100]))
    lists = pa.ListArray.from_arrays(list(range(10)), words)
    table = pa.Table.from_pandas(pd.DataFrame(index=range(9)))
    shared = pa.table({"0": words if place == "others" else lists})
    if place == "table":
        stream(shared, tmp_path / "table.arrows")
    else:
        stream(table, tmp_path / "table.arrows")
        stream(shared, tmp_path / "others.arrows")
    with pytest.raises(WandbXComRefusedError, match="hold categories"):
        codec_named("pandas").read(tmp_path, {**PANDAS, "unpacked_bytes": 5000}, LIMITS)


@pytest.mark.parametrize("codec", ["pandas", "polars", "arrow"])
def test_a_table_of_many_rows_and_no_bytes_is_refused(tmp_path: Path, codec: str) -> None:
    assert len(stream(pa.table({"a": pa.nulls(1 << 22)}), tmp_path / "table.arrows")) < 10_000
    with pytest.raises(WandbXComRefusedError, match="it declares"):
        codec_named(codec).read(tmp_path, {}, LIMITS)


def test_a_table_whose_rows_share_one_stretch_of_memory_is_no_pandas_frame(tmp_path: Path) -> None:
    stream(pa.table({"a": pa.array(["x" * 100] * 9, pa.string_view())}), tmp_path / "table.arrows")
    with pytest.raises(WandbXComRefusedError, match="are views"):
        codec_named("pandas").read(tmp_path, {**PANDAS, "unpacked_bytes": 5000}, LIMITS)


@pytest.mark.parametrize("codec", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xff\xff\xff\x10\0\0\0" + b"\x7f" * 16, b"no table at all" * 9]
)
def test_what_is_no_table_is_refused(tmp_path: Path, codec: str, content: bytes) -> None:
    (tmp_path / "table.arrows").write_bytes(content)
    with pytest.raises(WandbXComRefusedError):
        codec_named(codec).read(tmp_path, {}, LIMITS)
