"""Importing much at once: what is found is the same, and nothing stays changed."""

from __future__ import annotations

import gc
import inspect
import sys
from pathlib import Path

import pytest

from wandb_airflow_provider.quick_import import quick_import

MODEL = '''
from pydantic import BaseModel, ConfigDict

class Model(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    rate: float
    """How fast it learns."""
'''


def test_what_is_imported_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "quickly_imported_model.py").write_text(MODEL)
    with quick_import():
        import quickly_imported_model  # type: ignore[import-not-found]
    monkeypatch.delitem(sys.modules, "quickly_imported_model")
    assert quickly_imported_model.Model.model_fields["rate"].description == "How fast it learns."


def test_the_module_of_a_frame_is_known_without_looking_through_all_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looks_through_all(*args: object) -> None:
        raise AssertionError("asked for a frame")

    frame = inspect.currentframe()
    monkeypatch.setattr(inspect, "getmodule", looks_through_all)
    with quick_import():
        found = inspect.getmodule(frame)  # type: ignore[arg-type]
    assert found is sys.modules[__name__]


def test_nothing_stays_changed_after_an_import_that_failed() -> None:
    before = inspect.getmodule
    meanwhile = []

    def fail() -> None:
        with quick_import():
            meanwhile.append((gc.isenabled(), inspect.getmodule is before))
            import there_is_no_such_module  # type: ignore[import-not-found] # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        fail()
    assert meanwhile == [(False, False)]
    assert gc.isenabled()
    assert inspect.getmodule is before
