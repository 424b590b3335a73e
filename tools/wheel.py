"""Puts the documentation and the dashboard into the wheel, where the installed server finds them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WITHOUT_DASHBOARD = "CATEGORIZER_WHEEL_WITHOUT_DASHBOARD"


class SiteHook(BuildHookInterface[Any]):
    """Builds both sites.  In an editable installation, `make` does."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the sites to the files of the wheel."""
        if version == "editable":
            return
        root = Path(self.root)
        site = root / ".build" / "wheel-site"
        subprocess.run([sys.executable, str(root / "tools" / "docs.py"), str(site)], check=True)
        files = build_data["force_include"]
        files[str(site / "docs")] = "image_categorizer_server/_docs"
        if not os.environ.get(WITHOUT_DASHBOARD):
            files[str(built_dashboard(root))] = "image_categorizer_server/_dashboard"


def built_dashboard(root: Path) -> Path:
    """Builds the dashboard; returns its folder.

    Raises:
        SystemExit: there is no Node.js, or npm reaches no registry.
    """
    folder = root / ".build" / "wheel-dashboard"
    environment = {
        **os.environ,
        "DASHBOARD_OUT": str(folder),
        # Of this Python, which has Node.js.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    script = root / "tools" / "dashboard.sh"
    subprocess.run([str(script), "build"], check=True, env=environment)
    if not (folder / "index.html").is_file():
        sys.exit(f"the wheel has no dashboard; {WITHOUT_DASHBOARD}=1 builds it so on purpose")
    return folder
