"""The page at `/` where the dashboard is not built: where people land who open the printed address.

The gateway serves it by itself.  It has no script, and its content security policy permits its own
style sheet and nothing else.
"""

import base64
import hashlib
import re
from pathlib import Path

from image_categorizer_server.settings import Settings
from image_categorizer_server.version import VERSION

SIGN_IN = """\
<li><a href="/auth/login">Sign in</a>, or see <a href="/v1/me">who you are signed in as</a></li>
"""
STYLE = re.compile("<style>(.*?)</style>", re.DOTALL)


def home_page(folder: Path, settings: Settings) -> str:
    """Returns the page as HTML.

    Args:
        folder: of the gateway's files.
        settings: of the installation; the page offers to sign in if people can.
    """
    page = (folder / "home.html").read_text()
    sign_in = SIGN_IN if settings.sign_in.issuer else ""
    return page.replace("@version@", VERSION).replace("@sign_in@", sign_in)


def content_security_policy(page: str) -> str:
    """Returns the policy of a page that has nothing but style sheets of its own."""
    digests = (hashlib.sha256(text.encode()).digest() for text in STYLE.findall(page))
    styles = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; style-src {styles}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
