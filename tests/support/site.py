"""The documentation as a web site, where the server looks for it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".build" / "site"


def built_site() -> Path:
    """Returns the folder of the site. `make setup` builds it, and if it has not, this does."""
    if not (SITE / "docs" / "index.html").exists():
        command = [sys.executable, str(ROOT / "tools" / "docs.py"), str(SITE)]
        subprocess.run(command, check=True, timeout=100, cwd=ROOT)
    return SITE
