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
_SECTION_LEVEL = 2


def to_html(text: str) -> Markup:
    """
    Return Markdown as HTML: tags in it are shown as text, links lead to the web only, images become links.

    Its headings become those below a section's, so that none looks like a title or a section of the page.
    """
    return Markup(_parser().render(text))  # noqa: S704 - the parser escapes tags and refuses other links


@cache
def _parser() -> MarkdownIt:
    # Whoever embeds the server without looking at a report does not pay for the parser.
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = _allowed  # type: ignore[method-assign]
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("heading_open", _heading)
    parser.add_render_rule("heading_close", _heading)
    return parser


def _allowed(url: str) -> bool:
    # "//host" would be another scheme's page under this one's.
    return url.lower().startswith(_SCHEMES) and not url.startswith("//")


def _link(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer")
    return renderer.renderToken(tokens, index, options, env)


def _heading(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    level = min(int(tokens[index].tag[1]) + _SECTION_LEVEL, 6)
    return f"</h{level}>\n" if tokens[index].nesting < 0 else f"<h{level}>"


def _image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    url, title = str(token.attrGet("src") or ""), token.content or "image"
    return str(
        Markup('<a href="{}" rel="noopener noreferrer">{}</a> <span class="quiet">(image)</span>').format(
            url, title
        )
    )
