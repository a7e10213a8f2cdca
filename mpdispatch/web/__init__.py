"""The HTTP API as an ASGI app, to be mounted or served alone. Needs the `http` extra (Starlette).

request ─▶ access rule (403, 401, 415) ─▶ route ─▶ engine ─▶ JSON as the command line's `--json`, or {"error": text}

Not here: how it is mounted in an app (`extension`), and anything done to jobs beyond reading a request (`engine`).
"""

from mpdispatch.web.access import Access, AuthRule
from mpdispatch.web.app import web_app

__all__ = ["Access", "AuthRule", "web_app"]
