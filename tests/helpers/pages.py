"""An HTML page as its reader's software sees it, to assert on."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})


@dataclass
class Element:
    """A tag, its attributes, and the text in it and below it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Reads a page; every element that is opened must be closed, in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, inside=[e.tag for e in self._open])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        """Every element of a tag, in order."""
        return [element for element in self.elements if element.tag == tag]

    def text(self, tag: str, css: str = "") -> str:
        """Of the first element of a tag (and class), its white space as a reader sees it."""
        found = next(e for e in self.all(tag) if css in e.attributes.get("class", ""))
        return " ".join(found.text.split())

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """alt -> (H, W, 3), decoded from the page itself."""
        found = {}
        for image in self.all("img"):
            kind, _, data = image.attributes["src"].partition(",")
            assert kind == "data:image/webp;base64"
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
                found[image.attributes["alt"]] = np.asarray(picture.convert("RGB"))
        return found


def assert_sound(source: str) -> Page:
    """Well-formed, loads nothing, runs its own script alone, and says in words what it shows."""
    page = Page(source)
    assert (
        "http://" not in source
        and "https://" not in source
        and not re.search(r"url\((?!#)", source)
        and "@import" not in source
    )
    assert {element.tag for element in page.elements}.isdisjoint({"link", "iframe", "object", "base"})
    (script,) = page.all("script")
    policy = next(e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes)
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()}'" in policy
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")], element
        assert element.attributes.get("href", "#").startswith("#")
        assert element.attributes.get("src", "data:").startswith("data:")
    assert all(image.attributes["alt"].strip() for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.attributes.get("scope") in ("row", "col") for cell in page.all("th"))
    levels = [int(e.tag[1]) for e in page.elements if e.tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    identifiers = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {e.attributes["aria-labelledby"] for e in page.elements if "aria-labelledby" in e.attributes} <= set(
        identifiers
    )
    return page
