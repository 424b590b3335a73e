"""Writes docs/sdk-reference.md from the signatures and the docstrings of the SDK."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from sync_twin import ruff

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "clients" / "python" / "image_categorizer"
VALUES = (
    "_values.py",
    "_access_values.py",
    "_receipt_values.py",
    "_drift_values.py",
    "_subject_values.py",
    "_retention_values.py",
    "_legal_hold_values.py",
    "_review_values.py",
    "_dataset_values.py",
    "_upload_values.py",
)
PAGE = Path("docs/sdk-reference.md")
GENERATED = "<!-- Generated from clients/python by tools/generate.py; do not edit. -->"
MAX_SIGNATURE = 88
CLIENT = "ImageCategorizationClient"
# Class, module, and what leads to it from a client.
RESOURCES = [
    ("Audit", "audit", "client.audit"),
    ("Batches", "batches", "client.batches"),
    ("Images", "images", "client.images"),
    ("Keys", "keys", "client.keys"),
    ("Listing", "listing", "listing"),
    ("LegalHolds", "legal_holds", "client.legal_holds"),
    ("Models", "models", "client.models"),
    ("Results", "results", "client.results"),
    ("Retention", "retention", "client.retention"),
    ("Reviews", "reviews", "client.reviews"),
    ("Subjects", "subjects", "client.subjects"),
    ("Tenants", "tenants", "client.tenants"),
    ("Uploads", "uploads", "client.uploads"),
    ("Webhooks", "webhooks", "client.webhooks"),
]
SECTION = re.compile(r"(Args|Returns|Yields|Raises):")
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def page(root: Path) -> str:
    """Returns the page, in Markdown; the twin in `_sync` is read below `root`."""
    sync = root / PACKAGE.relative_to(ROOT) / "_sync"
    sections = [
        ("Client", list(client(sync))),
        *(
            (title, list(resource(sync / f"{module}.py", title, prefix)))
            for title, module, prefix in RESOURCES
        ),
        ("Asyncio", list(asynchronous())),
        ("Options", list(values(is_option=True))),
        ("Answers", list(values(is_option=False))),
        ("Types", list(aliases())),
        ("Functions", list(functions())),
        ("Errors", list(errors())),
    ]
    contents = [f"- [{title}](#{title.lower()})" for title, _ in sections]
    lines = ["# SDK reference", "", GENERATED, "", *INTRODUCTION, "", *contents]
    for title, body in sections:
        lines += ["", f"## {title}", "", *body]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"
    return ruff(text, PAGE, "format")


INTRODUCTION = [
    "The Python package `image_categorizer` exports every name on this page.",
    "[Clients](clients.md) shows how to use them.",
]


def client(sync: Path) -> Iterator[str]:
    """Yields the client's section."""
    found = class_of(sync / "client.py", CLIENT)
    yield from prose(docstring(found))
    for method in methods(found, with_init=True):
        yield from described(method, CLIENT if method.name == "__init__" else "client")


def resource(file: Path, name: str, prefix: str) -> Iterator[str]:
    """Yields the section of one resource of the client."""
    found = class_of(file, name)
    yield from prose(docstring(found))
    for method in methods(found):
        yield from described(method, prefix)


def asynchronous() -> Iterator[str]:
    """Yields what differs in the asyncio client."""
    name = f"Async{CLIENT}"
    yield f"`{name}` has the same methods with the same arguments. Await what returns a value; use"
    yield "`async for` with what returns an iterator. Where sources are taken, they may also be an"
    yield "asynchronous iterable."
    yield ""
    yield from prose(docstring(class_of(PACKAGE / "_aio" / "client.py", name)))


def values(is_option: bool) -> Iterator[str]:
    """Yields the classes of the values: the typed dictionaries, or the dataclasses."""
    for found in (found for file in VALUES for found in classes(PACKAGE / file)):
        if is_option != any(
            "Options" in ast.unparse(b) or "TypedDict" in ast.unparse(b) for b in found.bases
        ):
            continue
        yield from ("", f"### {found.name}", "", *prose(docstring(found)), "")
        yield from fields(found)
        for method in methods(found):
            if is_property(method):
                kind = ast.unparse(method.returns) if method.returns else ""
                yield item(method.name, kind, docstring(method))
            else:
                yield from described(method, found.name[0].lower() + found.name[1:], level=4)


def aliases() -> Iterator[str]:
    """Yields the public type aliases."""
    public = exported()
    sources = [ast.parse((PACKAGE / file).read_text()) for file in VALUES]
    for name, value, text in (found for source in sources for found in assignments(source)):
        if name in public:
            is_text = isinstance(value, ast.Constant)  # names types that are not imported
            shown = ast.literal_eval(value) if is_text else ast.unparse(value)
            yield from ("", f"### {name}", "", *code(f"{name} = {shown}"))
            yield from prose(text)


def functions() -> Iterator[str]:
    """Yields the functions of the package."""
    for file, name in (
        ("_inputs.py", "image_files"),
        ("_frames.py", "to_pandas"),
        ("receipts.py", "verify_receipt"),
        ("webhooks.py", "verify_webhook"),
    ):
        for node in ast.parse((PACKAGE / file).read_text()).body:
            if isinstance(node, Definition) and node.name == name:
                yield from described(node, "")


def errors() -> Iterator[str]:
    """Yields the tree of the errors, and each of them."""
    tree = docstring(ast.parse((PACKAGE / "errors.py").read_text()))
    head, _, drawing = tree.partition("\n\n")
    yield from (*prose(head), "", "```text", *drawing.splitlines(), "```", "")
    for found in classes(PACKAGE / "errors.py"):
        reason = next((value for name, value, _ in assignments(found) if name == "reason"), None)
        if found.name == "CategorizerError":
            yield from ("", f"### {found.name}", "", *prose(docstring(found)), "")
            yield from fields(found)
            yield from ("", "### Reasons", "", "| Class | Reason | Meaning |", "|---|---|---|")
        meaning = " ".join(docstring(found).split())
        shown = ast.literal_eval(reason) if reason else ""
        yield f"| `{found.name}` | `{shown}` | {meaning} |"
    for found in (*classes(PACKAGE / "receipts.py"), *classes(PACKAGE / "webhooks.py")):
        yield f"| `{found.name}` | | {docstring(found)} |"


def described(node: Definition, prefix: str, level: int = 3) -> Iterator[str]:
    """Yields a function's heading, signature, text, arguments and errors."""
    name = prefix if node.name == "__init__" else f"{prefix}.{node.name}".lstrip(".")
    yield from ("", f"{'#' * level} {name}", "", *code(signature(node, name)))
    parts = SECTION.split(docstring(node))
    yield from prose(parts[0])
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        title = {"Args": "Arguments"}.get(kind, kind)
        body = inspect.cleandoc(text)
        if kind in ("Args", "Raises"):
            yield from ("", f"{title}:", "", *entries(body))
        else:
            yield from ("", f"{title}: {joined(body)}")


def signature(node: Definition, name: str) -> str:
    """Returns the signature as one calls it: without `self`, one argument a line where long."""
    arguments = node.args
    positional = [a for a in arguments.args if a.arg != "self"]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    shown = [
        argument(a, d) for a, d in zip(positional, [*defaults, *arguments.defaults], strict=True)
    ]
    if arguments.kwonlyargs:
        shown.append("*")
    shown += [
        argument(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        shown.append(f"**{argument(arguments.kwarg, None)}")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    if any(isinstance(d, ast.Name) and d.id == "listing" for d in node.decorator_list):
        returns = returns.replace("Iterator[", "Listing[")
    line = f"{name}({', '.join(shown)}){returns}"
    if len(line) <= MAX_SIGNATURE:
        return line
    return "\n".join([f"{name}(", *(f"    {entry}," for entry in shown), f"){returns}"])


def argument(node: ast.arg, default: ast.expr | None) -> str:
    """Returns one argument of a signature."""
    text = node.arg
    if node.annotation:
        text += f": {ast.unparse(node.annotation)}"
    return f"{text} = {ast.unparse(default)}" if default else text


def fields(found: ast.ClassDef) -> Iterator[str]:
    """Yields a class's fields, and the attributes that its constructor documents."""
    for node, text in documented(found):
        if isinstance(node, ast.AnnAssign):
            yield item(ast.unparse(node.target), ast.unparse(node.annotation), text)
    for method in methods(found, with_init=True):
        if method.name == "__init__":
            for node, text in documented(method):
                if text and isinstance(node, ast.Assign):
                    yield item(ast.unparse(node.targets[0]), "", text)
                elif text and isinstance(node, ast.AnnAssign):
                    yield item(ast.unparse(node.target), ast.unparse(node.annotation), text)


def item(name: str, kind: str, text: str) -> str:
    """Returns a field as a list item."""
    name, kind = name.removeprefix("self."), re.sub(r"^ClassVar\[(.*)\]$", r"\1", kind)
    shown = f"`{name}: {kind}`" if kind else f"`{name}`"
    return f"- {shown}" + (f": {joined(text)}" if text else "")


def entries(body: str) -> Iterator[str]:
    """Yields a section's entries, `name: text` each, as list items."""
    for entry in re.split(r"\n(?=\S)", body):
        name, _, text = entry.partition(":")
        yield f"- `{name.strip()}`: {joined(text)}"


def prose(text: str) -> Iterator[str]:
    """Yields paragraphs on one line each; indented ones as code."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.startswith("    "):
            yield from code(textwrap.dedent(paragraph))
        elif paragraph.strip():
            yield from (joined(paragraph), "")


def joined(text: str) -> str:
    """Returns a text on one line."""
    return " ".join(text.split())


def code(text: str) -> Iterator[str]:
    """Yields a block of Python."""
    # `py`: these are excerpts, not programs that a test of the documentation could run.
    yield from ("```py", text.replace("'", '"'), "```", "")


def docstring(node: ast.Module | ast.ClassDef | Definition) -> str:
    """Returns the docstring without its indentation."""
    return ast.get_docstring(node) or ""


def documented(node: ast.Module | ast.ClassDef | Definition) -> Iterator[tuple[ast.stmt, str]]:
    """Yields statements with the text that stands below them, empty where there is none."""
    following: Sequence[ast.stmt | None] = [*node.body[1:], None]
    for statement, after in zip(node.body, following, strict=True):
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = inspect.cleandoc(str(after.value.value))
        yield statement, text


def assignments(node: ast.Module | ast.ClassDef) -> Iterator[tuple[str, ast.expr, str]]:
    """Yields name, value and text of each assignment."""
    for statement, text in documented(node):
        if isinstance(statement, ast.Assign):
            yield ast.unparse(statement.targets[0]), statement.value, text
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield ast.unparse(statement.target), statement.value, text


def classes(file: Path) -> Iterator[ast.ClassDef]:
    """Yields the public classes of a module."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node


def class_of(file: Path, name: str) -> ast.ClassDef:
    """Returns one class of a module."""
    return next(node for node in classes(file) if node.name == name)


def methods(found: ast.ClassDef, with_init: bool = False) -> Iterator[Definition]:
    """Yields the public methods of a class."""
    for node in found.body:
        if isinstance(node, Definition) and (
            not node.name.startswith("_") or (with_init and node.name == "__init__")
        ):
            yield node


def is_property(node: Definition) -> bool:
    """Returns whether a method is a property."""
    return any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)


def exported() -> set[str]:
    """Returns the names that the package exports."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    return next(
        set(ast.literal_eval(value)) for name, value, _ in assignments(tree) if name == "__all__"
    )
