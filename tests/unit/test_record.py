"""``Record``: used like a ``NamedTuple``, without the code that one generates."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest

from wandb_airflow_provider.record import Record


class Place(Record):
    kind: ClassVar[str] = "place"

    city: str
    country: str = "Norway"
    tags: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.city}, {self.country}"


class Port(Place):
    depth: float = 0.0


def test_values_are_given_in_order_or_by_name_and_defaults_fill_the_rest() -> None:
    assert Place._fields == ("city", "country", "tags")
    place = Place("Bergen", tags=("wet",))
    assert (place.city, place.country, place.tags, place.label) == (
        "Bergen",
        "Norway",
        ("wet",),
        "Bergen, Norway",
    )
    assert repr(place) == "Place(city='Bergen', country='Norway', tags=('wet',))"
    assert Port("Oslo", depth=9.0)._asdict() == {
        "city": "Oslo",
        "country": "Norway",
        "tags": (),
        "depth": 9.0,
    }


def test_equal_values_are_equal_whatever_the_order_in_which_they_were_given() -> None:
    assert Place(country="Sweden", city="Lund") == Place("Lund", "Sweden")
    assert len({Place("Oslo"), Place("Oslo", "Norway"), Place("Oslo")._replace(tags=())}) == 1
    assert Place("Oslo") != Place("Lund")
    assert Place("Oslo") != Port("Oslo")
    assert Place("Oslo")._replace(city="Lund") == Place("Lund")


def test_a_value_cannot_be_changed_and_survives_a_copy_and_a_pickle() -> None:
    place = Place("Oslo")
    with pytest.raises(AttributeError, match="A Place cannot be changed"):
        place.city = "Lund"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="A Place cannot be changed"):
        del place.city
    assert copy.deepcopy(place) == place == pickle.loads(pickle.dumps(place))


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        ((), {}, r"Place lacks \['city'\]"),
        (("a", "b", (), "d"), {}, "Place has 3 fields, got 4 values"),
        (("a",), {"city": "b"}, r"Place got \['city'\] twice"),
        (("a",), {"town": "b"}, r"Place got \['town'\] twice, or has no such fields"),
    ],
)
def test_values_that_do_not_fit_the_fields_are_refused(
    values: tuple[str, ...], named: dict[str, str], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Place(*values, **named)
