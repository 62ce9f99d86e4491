"""Read the documentation strings of Python's standard library, without importing or running any of it."""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Tests, bundled tools and generated tables: no prose about the library, or not part of every installation.
_SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "encodings",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
# Where a statement holds others, in source order; nothing else can hold a definition.
_BLOCKS = ("body", "cases", "handlers", "orelse", "finalbody")
_EDGES = " +-:=,"
_EMAIL = re.compile(r"<?\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b>?")
_CREDIT_LINE = re.compile(
    r"""^\W*(?:
        @?authors?\b | maintainers?\b | contributors?\b | credits?\s*: | copyright\b | \(c\)\s |
        (?:originally\s+|initially\s+|re)?(?:written|contributed|created|implemented|modified|designed)\s+by\s
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# "Written by Jane Doe", "(contributed by Jane Doe)" inside a line; a lower-case word after "by" is not a name.
_CREDIT_PHRASE = re.compile(
    r"\(?\b(?i:written|contributed|created|implemented|suggested|provided|donated|modified)\s+by\s+"
    r"(?:[A-Z][\w'-]*\.?)(?:\s+(?:[A-Z][\w'-]*\.?|van|von|de|der))+[.,]?\)?"
)


@dataclass(frozen=True, slots=True)
class Docstring:
    """The documentation of one function, class or method, as written in the source."""

    module: str
    qualname: str
    kind: str
    text: str


def stdlib_folder() -> Path:
    """Return the folder with the sources of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def module_files(stdlib: Path) -> dict[str, list[tuple[str, Path]]]:
    """
    Return ``{group: [(module, file), ...]}`` for every source file under ``stdlib``, in a fixed order.

    A group is one module, together with the Python twin of an accelerated one (``_pydecimal`` and ``decimal``),
    so that the same documentation cannot land in two splits.
    """
    groups: dict[str, list[tuple[str, Path]]] = {}
    for parts, path in sorted(_sources(stdlib)):
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if names:
            top = re.sub(r"^_(?:py)?", "", names[0]) or names[0]
            groups.setdefault(".".join((top, *names[1:])), []).append((".".join(names), path))
    return dict(sorted(groups.items()))


def _sources(stdlib: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield path parts, without suffix, and path of each source file; skipped folders are not even listed."""
    for folder, below, files in os.walk(stdlib):
        below[:] = [name for name in below if name not in _SKIPPED_FOLDERS and not name.startswith("config-")]
        parts = Path(folder).relative_to(stdlib).parts
        for name in files:
            if name.endswith(".py"):
                yield (*parts, name.removesuffix(".py")), Path(folder, name)


def read_docstrings(module: str, path: Path) -> Iterator[Docstring]:
    """
    Yield the docstring of each documented function, class and method in ``path``, in source order.

    A file that the running Python cannot parse (a template, a file for another version) yields nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old sources are not ours to report
            tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError):
        return
    yield from _documented(tree, module, prefix="", inside_class=False)


def _documented(node: ast.AST, module: str, *, prefix: str, inside_class: bool) -> Iterator[Docstring]:
    for block in _BLOCKS:
        for child in getattr(node, block, ()):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                is_class = isinstance(child, ast.ClassDef)
                kind = "class" if is_class else "method" if inside_class else "function"
                qualname = f"{prefix}{child.name}"
                text = ast.get_docstring(child)
                if text and text.strip():
                    yield Docstring(module, qualname, kind, text)
                yield from _documented(child, module, prefix=f"{qualname}.", inside_class=is_class)
            else:
                yield from _documented(child, module, prefix=prefix, inside_class=inside_class)


def scrub(text: str) -> str:
    """Remove e-mail addresses, lines that credit a person, and "written by Jane Doe" phrases from ``text``."""
    kept = [line for line in text.splitlines() if not _CREDIT_LINE.match(line)]
    return _CREDIT_PHRASE.sub("", _EMAIL.sub("", "\n".join(kept)))


def split_summary(text: str) -> tuple[str, str]:
    """
    Return the first sentence of ``text`` and everything after it.

    The first sentence ends at a full stop that closes a line or precedes a capital letter, or with the first
    paragraph. A leading call signature (``name(x) -> y``) on a line of its own belongs to neither.
    """
    lines = text.strip().splitlines()
    while lines and re.fullmatch(r"\s*[\w.]+\([^)]*\)(?:\s*(?:->|=).*)?\s*:?", lines[0]):
        lines.pop(0)
    body = "\n".join(lines).strip()
    paragraph, _, rest = body.partition("\n\n")
    stop = re.search(r"(?<!e\.g)(?<!i\.e)(?<!etc)[.!?](?=\s+[A-Z`'\"(*]|\s*$)", paragraph)
    if stop is None:
        return paragraph, rest
    return paragraph[: stop.end()], f"{paragraph[stop.end() :]}\n\n{rest}".strip()


def without_name(summary: str, name: str) -> str:
    """
    Remove the object's own ``name`` from its ``summary``, in any letter case and with any call or path around it.

    ``S.strip(chars)``, ``STRIP`` and ``:meth:`strip``` all go when the name is ``strip`` or ``_strip``; a longer
    identifier that merely contains the name stays. Otherwise the name alone would find the passage.
    """
    bare = name.strip("_") or name
    if bare.lower() not in summary.lower():
        return " ".join(summary.split()).strip(
            _EDGES
        )  # most summaries; compiling a pattern per object is slow
    bare = re.escape(bare)
    pattern = rf"(?<!\w)(?::\w+:)?`*(?:[A-Za-z_]\w*\.)*_*{bare}_*(?!\w)(?:\([^()]*\))?(?:\s*->\s*\S+)?`*"
    return " ".join(re.sub(pattern, " ", summary, flags=re.IGNORECASE).split()).strip(_EDGES)
