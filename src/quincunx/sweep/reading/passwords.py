"""The password in the URL of a storage, which is never written down."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"""(\bpostgres(?:ql)?(?:\+\w+)?://[^:@/\s"']*):[^@/\s"']*@""")
_PARAMETER = re.compile(r"""(\bpostgres(?:ql)?(?:\+\w+)?://[^\s"']*[?&])password=[^&\s"']*&?""")


def scrubbed(text: str) -> str:
    """Return a text without the passwords in the PostgreSQL URLs that stand in it; all else stays, lines as well."""
    return _PARAMETER.sub(r"\1", _PASSWORD.sub(r"\1@", text))


def without_password(url: str | None) -> str | None:
    """Return the URL of a storage without its password, None for None."""
    return None if url is None else scrubbed(url).rstrip("?&")
