"""Markdown that somebody else wrote, as HTML that runs and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token

_SCHEMES = ("http://", "https://", "mailto:", "/", "#")


def to_html(text: str) -> Markup:
    """Return Markdown as HTML: tags in it are shown as text, links lead to the web only, images become links."""
    return Markup(_parser().render(text))  # noqa: S704 - the parser escapes tags and refuses other links


@cache
def _parser() -> MarkdownIt:
    # Whoever embeds the server without looking at a report does not pay for the parser.
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = _allowed  # type: ignore[method-assign]
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link)
    return parser


def _allowed(url: str) -> bool:
    # "//host" would be another scheme's page under this one's.
    return url.lower().startswith(_SCHEMES) and not url.startswith("//")


def _link(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer")
    return renderer.renderToken(tokens, index, options, env)


def _image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    url, title = str(token.attrGet("src") or ""), token.content or "image"
    return str(
        Markup('<a href="{}" rel="noopener noreferrer">{}</a> <span class="quiet">(image)</span>').format(
            url, title
        )
    )
