"""The password in the URL of a storage, which is never written down and never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from quincunx.config.document import ConfigError, Mark, Problem, Source

# as SQLAlchemy reads an URL: a password ends at the first @ and may hold anything else
_PASSWORD = re.compile(r"""(\b[a-z][\w+]*://[^:@/\s"']*):([^@\s"']*)@""")
_PARAMETER = re.compile(r"""(?<=[?&])((?:ssl)?password=)([^&\s"']*)&?""")
_URL = re.compile(r"([a-z][\w+]*://[^:@/]*):[^@]*@")


def scrubbed(text: str, url: str | None = None) -> str:
    """Return a text without the passwords in the URLs that stand in it; all else stays, lines as well.

    Args:
        text: The text.
        url: One that may stand in it, and whose password may hold what ends others: blanks, quotes.
    """
    if url is not None:
        text = text.replace(url, without_password(url) or "")
    text = _PASSWORD.sub(r"\1@", text)
    return _PARAMETER.sub("", text)


def without_password(url: str | None) -> str | None:
    """Return the URL of a storage without its password, None for None."""
    if url is None:
        return None
    return scrubbed(_URL.sub(r"\1@", url, count=1)).rstrip("?&")


def covered(error: ConfigError) -> ConfigError:
    """Return the same problems, with asterisks where they would show a password; columns stay what they are."""
    return ConfigError(list(_covered(error.problems)), error.salvaged)


def _covered(problems: Iterable[Problem]) -> Iterable[Problem]:
    for each in problems:
        mark = each.mark
        if mark is not None and 0 < mark.line <= len(mark.source.lines):
            lines = tuple(map(_stars, mark.source.lines))
            mark = Mark(Source(mark.source.name, lines), mark.line, mark.column)
        yield replace(each, mark=mark, message=_stars(each.message), remedy=_stars(each.remedy))


def _stars(text: str) -> str:
    text = _PASSWORD.sub(lambda found: f"{found[1]}:{'*' * len(found[2])}@", text)
    return _PARAMETER.sub(lambda found: found[0].replace(found[2], "*" * len(found[2])) if found[2] else found[0], text)
