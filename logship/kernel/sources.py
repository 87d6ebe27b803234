"""What the compiled kernel was made from, so that one that is older than its sources is noticed.

In: the folder of the Cython sources. Out: a word for what is in them. setup.py runs this file by its path, since the
package can't be imported where it is being built.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent


def digest(folder: Path = _FOLDER) -> str:
    """Empty where there are no sources: an installed wheel has none."""
    found = sorted((*folder.glob("*.pyx"), *folder.glob("*.pxi")))
    if not found:
        return ""
    told = hashlib.sha256()
    for path in found:
        told.update(f"{path.name} {path.stat().st_size}\n".encode())
        told.update(path.read_bytes())
    return told.hexdigest()[:16]
