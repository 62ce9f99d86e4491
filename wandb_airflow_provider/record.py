"""``Record``: values with named fields, for modules that each parse of a DAG file imports."""

from __future__ import annotations

from inspect import get_annotations
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

__all__ = ["Record"]


@dataclass_transform(frozen_default=True, eq_default=True)
class Record:
    """
    An immutable value, whose fields are the annotated class attributes of its class.

    Used like a ``NamedTuple``, except that it is no sequence. ``NamedTuple`` and ``dataclass`` generate code for each
    class, which costs every parse of a DAG file a quarter of a millisecond or more for each.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = (name for name, kind in get_annotations(cls).items() if not str(kind).startswith("ClassVar"))
        cls._fields = (*cls._fields, *own)

    def __init__(self, *values: Any, **named: Any) -> None:
        kind, fields = type(self), self._fields
        if len(values) > len(fields):
            raise TypeError(f"{kind.__name__} has {len(fields)} fields, got {len(values)} values")
        given = dict(zip(fields, values, strict=False))
        if wrong := [name for name in named if name in given or name not in fields]:
            raise TypeError(f"{kind.__name__} got {wrong} twice, or has no such fields")
        given.update(named)
        if absent := [name for name in fields if name not in given and not hasattr(kind, name)]:
            raise TypeError(f"{kind.__name__} lacks {absent}")
        # In the order of the fields, and with the defaults: what two equal values hold is equal.
        vars(self).update({name: given[name] if name in given else getattr(kind, name) for name in fields})

    def _replace(self, **changes: Any) -> Self:
        """Return a value in which these fields differ."""
        return type(self)(**{**vars(self), **changes})

    def _asdict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
        )

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"A {type(self).__name__} cannot be changed; make another one instead.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A {type(self).__name__} cannot be changed; make another one instead.")
