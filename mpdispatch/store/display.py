"""Shows a location without its password. Pure."""

from __future__ import annotations

import re

_OF_USER = re.compile(r"^([a-z][a-z0-9+.-]*://[^:/?#@]*):.*@", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"([?&][^=&]*(?:passw|pwd|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


def without_password(location: str) -> str:
    """The location with `***` in place of any password in a URL; a path is returned unchanged.

    >>> without_password("postgresql://ann:s3c/r@t@db/jobs?sslmode=require&sslpassword=x")
    'postgresql://ann:***@db/jobs?sslmode=require&sslpassword=***'
    >>> without_password("redis://:s3cret@cache/0"), without_password("ann:bob@home.db")
    ('redis://:***@cache/0', 'ann:bob@home.db')
    """
    if "://" not in location:
        return location
    return _PARAMETER.sub(r"\1***", _OF_USER.sub(r"\1:***@", location))
