"""The status page: one document that needs nothing but /status.

In: the HTML, the style and the script that lie beside this module. Out: `PAGE`, the three made into one,
with the policy that lets a browser run just these and ask nobody but us.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    policy: str  # the Content-Security-Policy header


def _assemble() -> Page:
    here = files(__name__)
    html, style, script = (
        here.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")
    )
    body = html.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    return Page(body.encode(), policy)


def _hash(text: str) -> str:
    """An inline style or script, as the policy names it: what stands between the tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


PAGE: Final = _assemble()
