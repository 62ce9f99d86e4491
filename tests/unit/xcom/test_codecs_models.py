"""Models and objects of classes that a deployment has named come back as what they were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.unit.xcom.round_trip import some, stored, text
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.codecs.registry import codec_for

single = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)


@pytest.fixture(scope="module")
def model() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, [0, 0, 1, 1])


@pytest.mark.slow
def test_a_model_comes_back_and_predicts_the_same(model: Any) -> None:
    back, _ = stored(model)
    features = np.array([[0.5, 0.5], [2.5, 0.5]])
    assert (back.predict_proba(features) == model.predict_proba(features)).all()


def test_the_same_model_is_the_same_content_wherever_it_is_in_memory(model: Any) -> None:
    import copy

    kept = [copy.deepcopy(model) for _ in range(3)]
    assert len({stored(one)[1] for one in (model, *kept)}) == 1


parameters = st.recursive(
    single | st.binary(max_size=8) | st.sampled_from([np.float32(0.1), np.int8(-3), np.nan]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(text, inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def estimators(draw: Any) -> Any:
    """Return an estimator that was never fitted, or a pipeline of several: what they are given, they keep as it is."""
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    made = [
        lambda: SimpleImputer(fill_value=draw(parameters), missing_values=draw(single)),
        lambda: FunctionTransformer(kw_args=draw(st.dictionaries(text, parameters, max_size=3))),
        lambda: LogisticRegression(C=draw(st.floats(1e-9, 1e9)), class_weight=draw(parameters)),
        lambda: DummyClassifier(constant=draw(parameters)),
        lambda: RandomForestClassifier(draw(st.integers()), max_features=draw(single)),
    ]
    steps = [make() for make in draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))]
    return steps[0] if len(steps) == 1 else Pipeline([(f"step {n}", step) for n, step in enumerate(steps)])


def spelled(value: Any) -> str:
    """Return a value with the types of all that is in it."""
    if isinstance(value, dict):
        return repr([(spelled(key), spelled(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return f"{type(value)}{[spelled(item) for item in value]}"
    if hasattr(value, "get_params"):
        return f"{type(value)}{spelled(value.get_params(deep=False))}"
    return f"{type(value)}{value!r}"


@settings(parent=some, max_examples=25, derandomize=True)
@given(estimators())
def test_an_estimator_comes_back_with_its_parameters(value: Any) -> None:
    back, digest = stored(value)
    assert spelled(back) == spelled(value)
    assert stored(back)[1] == digest


@pytest.mark.parametrize("kept", [{1: "a", "1": "b"}, {"true": 1, True: 2}, {(1, 2): 3}, 1j], ids=repr)
def test_an_estimator_of_which_something_would_be_lost_is_refused(kept: Any) -> None:
    from sklearn.impute import SimpleImputer

    with pytest.raises(WandbConfigurationError, match="skops has no form that gives back the same"):
        stored(SimpleImputer(fill_value=[kept]))


class Allowed:
    """A class that a deployment may allow to be pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Disguised(Allowed):
    """Comes back as another class."""

    def __reduce__(self) -> Any:
        return Allowed, (self.value,)


@pytest.fixture(scope="module")
def allowed() -> Iterator[None]:
    """A deployment that has named the classes."""
    with pytest.MonkeyPatch.context() as patch:
        names = [f"{kind.__module__}.{kind.__qualname__}" for kind in (Allowed, Disguised)]
        patch.setenv("AIRFLOW__WANDB_XCOM__PICKLE_CLASSES", " ".join(names))
        yield


hashed = st.recursive(single | st.binary(max_size=8), lambda inner: st.tuples(inner, inner), max_leaves=3)
fields = st.recursive(
    hashed
    | st.binary(max_size=8).map(bytearray)
    | st.sets(hashed, max_size=3)
    | st.frozensets(hashed, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(hashed, inner, max_size=3)
        | st.builds(Allowed, inner)
        | inner.map(lambda item: [item, item])
    ),
    max_leaves=8,
)


def taken(value: Any) -> Any:
    """Return a value with the fields of objects in their place, for comparison."""
    if isinstance(value, Allowed):
        return "Allowed", taken(value.value)
    if isinstance(value, list):
        return [taken(item) for item in value]
    if isinstance(value, dict):
        return {key: taken(item) for key, item in value.items()}
    return type(value), value


@settings(parent=some, derandomize=True)
@given(fields)
@pytest.mark.usefixtures("allowed")
def test_an_object_of_a_named_class_comes_back_with_its_fields(value: Any) -> None:
    back, _ = stored(Allowed(value))
    assert type(back) is Allowed
    assert taken(back) == taken(Allowed(value))


@pytest.mark.usefixtures("allowed")
def test_an_object_that_is_larger_than_a_frame_of_its_pickle_comes_back() -> None:
    loop: list[Any] = []
    loop.append(loop)
    value = [
        "x" * 100_000,
        list(range(50_000)),
        b"y" * 3_000_000,
        bytearray(70_000),
        {n: str(n) for n in range(20_000)},
    ]
    back, _ = stored(Allowed([*value, value[1], loop]))
    assert back.value[:5] == value
    assert back.value[5] is back.value[1]
    assert back.value[6][0] is back.value[6]


@pytest.mark.usefixtures("allowed")
def test_an_object_that_would_come_back_as_another_class_is_refused() -> None:
    with pytest.raises(
        WandbConfigurationError, match=r"Disguised could not be read again: .* gives a .*Allowed"
    ):
        stored(Disguised(1))


def test_a_class_is_pickled_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__WANDB_XCOM__PICKLE_CLASSES", raising=False)
    assert codec_for(Allowed(1)) is None
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__PICKLE_CLASSES", f"{Allowed.__module__}.Allowed")
    back, _ = stored(Allowed([1, "a"]))
    assert (type(back), back.value) == (Allowed, [1, "a"])
    with pytest.raises(WandbConfigurationError, match="which is not in 'pickle_classes'"):
        stored(Allowed(OrderedDict()))
