"""Puts the documentation into the wheel, where the installed server finds it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DocumentationHook(BuildHookInterface[Any]):
    """Builds the site.  In an editable installation, `make` does."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the site to the files of the wheel."""
        if version == "editable":
            return
        root = Path(self.root)
        site = root / ".build" / "wheel-site"
        subprocess.run([sys.executable, str(root / "tools" / "docs.py"), str(site)], check=True)
        build_data["force_include"][str(site / "docs")] = "image_categorizer_server/_docs"
