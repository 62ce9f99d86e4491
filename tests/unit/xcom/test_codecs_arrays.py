"""NumPy arrays, sparse ones and dicts of them come back as what they were."""

from __future__ import annotations

import sys
from collections import OrderedDict

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given

from tests.unit.xcom.round_trip import some, stored, text
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.codecs.registry import codec_for

arrays = hnp.arrays(
    st.one_of(
        hnp.scalar_dtypes(),
        hnp.byte_string_dtypes(),
        hnp.unicode_string_dtypes(),
        hnp.array_dtypes(hnp.integer_dtypes() | hnp.floating_dtypes()),
    ).filter(lambda dtype: not dtype.hasobject),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@some
@given(arrays, st.booleans())
def test_an_array_comes_back_and_may_be_written_to(value: np.ndarray, turned: bool) -> None:
    value = value.T if turned else value
    back, _ = stored(value)
    assert type(back) is np.ndarray
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    assert back.tobytes() == value.tobytes()
    assert back.flags.writeable


numbers = hnp.arrays(
    st.sampled_from([np.float64, np.int32, np.float32, np.complex128]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.integers(0, 2),
)


@some
@given(numbers, st.sampled_from(["csr", "csc", "bsr", "coo", "dia", "lil", "dok"]), st.booleans())
def test_a_sparse_array_of_any_format_comes_back(value: np.ndarray, form: str, matrix: bool) -> None:
    sparse = getattr(scipy.sparse, f"{form}_{'matrix' if matrix else 'array'}")(value)
    back, _ = stored(sparse)
    assert (type(back), back.dtype, back.shape) == (type(sparse), sparse.dtype, sparse.shape)
    assert (back.toarray() == value).all()


tensors = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "i8", "i4", "u2", "?", "c8"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@some
@given(st.dictionaries(text, tensors, min_size=1, max_size=4), st.booleans())
def test_arrays_by_name_come_back_in_their_order(values: dict[str, np.ndarray], ordered: bool) -> None:
    value = OrderedDict(values) if ordered else values
    assert codec_for(value).name == "safetensors"
    back, _ = stored(value)
    assert type(back) is type(value)
    assert list(back) == list(value)
    for name, array in value.items():
        assert (back[name].shape, back[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(back[name], array)


def test_arrays_of_another_order_of_bytes_are_passed_one_by_one() -> None:
    swapped = np.arange(3, dtype=">f4")
    assert codec_for({"weight": swapped, "bias": np.arange(2.0)}) is None
    assert stored(swapped)[0].dtype == swapped.dtype


def test_torch_state_dicts_are_left_to_safetensors_where_torch_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Tensor:
        pass

    class Torch:
        pass

    Torch.Tensor = Tensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", Torch)  # type: ignore[misc]
    assert codec_for({"weight": Tensor()}).name == "safetensors"
    assert codec_for({"weight": Tensor(), "epoch": 3}) is None


def test_an_array_of_objects_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    value = np.array([["a", None], [1, 2.5]], dtype=object)
    with pytest.raises(WandbConfigurationError, match="allow_object_arrays"):
        stored(value)
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__ALLOW_OBJECT_ARRAYS", "True")
    back, _ = stored(value)
    assert (back.dtype, back.tolist()) == (object, value.tolist())
