"""How Sphinx builds the documentation: see tools/docs.py."""

project = html_title = "Image Categorizer"
extensions = ["myst_parser"]
root_doc = "index"
language = "en"
# Links to headings have the names that GitHub gives them.
myst_heading_anchors = 4
# Commands and JSON are shown as they are written.
smartquotes = False
# Shortened JSON, with `…`, is no JSON.
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "furo"
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_domain_indices = False
html_use_index = False
