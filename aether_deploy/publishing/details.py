"""What a release says about a model that its files do not: the author, the licence, what it is for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from urllib.parse import quote, urlsplit

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from aether_deploy.errors import ConfigError

__all__ = ["Details"]

_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Details:
    """The author's part of a release.

    Attributes:
        authors: names, at least one.
        license: an SPDX expression such as `CC-BY-4.0`; stored in its canonical spelling.
        name: of the model, without scale; "" for the checkpoint's.
        description: Markdown, what the model is for; "" for a plain sentence about the network.
        tags: of OpenModelDB, such as `photo` or `denoise`.
        base_model: what it was trained from: a model's id on Hugging Face; "" for none.
        url_base: the address at which the folder will be found; "" while it is not known.
        date: of the release; today's by default.
    Raises:
        ConfigError: a value that cannot be published.
    """

    authors: tuple[str, ...]
    license: str
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ("general-upscaler",)
    base_model: str = ""
    url_base: str = ""
    date: date = field(default_factory=lambda: datetime.now(UTC).date())

    def __post_init__(self) -> None:
        if not self.authors or not all(_plain(author) and _slug(author) for author in self.authors):
            raise ConfigError(f"author {self.authors!r}; expected a name with a letter or digit in it, on one line")
        try:
            object.__setattr__(self, "license", str(canonicalize_license_expression(self.license)))
        except InvalidLicenseExpression as error:
            raise ConfigError(
                f"license {self.license!r}; expected an SPDX identifier such as MIT, CC-BY-4.0 or CC-BY-NC-SA-4.0"
            ) from error
        for what, value in (("name", self.name), ("base_model", self.base_model)):
            if not _plain(value):
                raise ConfigError(f"{what} {value!r}; expected one line of text")
        if len(self.description) > _LONGEST:
            raise ConfigError(f"a description of {len(self.description)} characters; expected at most {_LONGEST}")
        wrong = [tag for tag in self.tags if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", tag)]
        if wrong or not self.tags:
            raise ConfigError(f"tags {list(self.tags)!r}; expected one or more such as photo or compression-removal")
        parts = urlsplit(self.url_base)
        if self.url_base and (parts.scheme not in ("https", "http") or not parts.netloc or not _plain(self.url_base)):
            raise ConfigError(f"url_base {self.url_base!r}; expected an address such as https://example.org/models/2x")

    @property
    def author_ids(self) -> list[str]:
        """The authors as OpenModelDB names its users: lower case, words joined by hyphens."""
        return [_slug(author).lower() for author in self.authors]

    def url(self, file: str) -> str:
        """Where a file of the folder will be found; its own name while the address is not known."""
        return f"{self.url_base.rstrip('/')}/{quote(file)}" if self.url_base else quote(file)


def _plain(text: str) -> bool:
    return text.isprintable() and len(text) <= _LONGEST


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
