"""The page at `/` where no dashboard is shown: where people land who open the printed address.

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
NOT_BUILT = """\
<p>The dashboard is not built on this machine. <code>make dashboard</code> builds it; start again
afterwards.</p>
"""
STYLE = re.compile("<style>(.*?)</style>", re.DOTALL)


def home_page(folder: Path, settings: Settings) -> str:
    """Returns the page as HTML.

    Args:
        folder: of the gateway's files.
        settings: of the installation; the page offers to sign in if people can, and says how there
            can be a dashboard if there should be one.
    """
    page = (folder / "home.html").read_text()
    sign_in = SIGN_IN if settings.sign_in.issuer else ""
    not_built = NOT_BUILT if settings.gateway.dashboard else ""
    values = {"@version@": VERSION, "@not_built@": not_built, "@sign_in@": sign_in}
    for name, value in values.items():
        page = page.replace(name, value)
    return page


def content_security_policy(page: str) -> str:
    """Returns the policy of a page that has nothing but style sheets of its own."""
    digests = (hashlib.sha256(text.encode()).digest() for text in STYLE.findall(page))
    styles = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; style-src {styles}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
