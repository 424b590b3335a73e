"""Structural rules that no linter checks: retired words, owned tasks, parameters, tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "server" / "image_categorizer_server"
WORKERS = ROOT / "workers" / "image_categorizer_workers"
SDK = ROOT / "clients" / "python" / "image_categorizer"
MAX_ROOT_MODULES = 9
MAX_PARAMETERS = 6
# Words that names no longer use.
RETIRED = frozenset(
    {"bury", "buried", "burial", "breaks", "suspect", "suspects", "alone", "feed", "feeds", "puts"}
    | {"room", "turns", "verdict", "settle", "settled", "leave", "tell", "tells", "told", "whose"}
    | {"bell", "bells"}
)
# Modules that may create tasks, because they also own them.
TASK_MAKERS = {"tasks.py"}
# Modules whose conditions wake threads: all that wait for one of them can do the same work.
THREADED = {"microbatcher.py"}


def sources(*roots: Path) -> list[Path]:
    found = [path for root in roots for path in root.rglob("*.py")]
    return sorted(p for p in found if "/v1/" not in str(p) and "/migrations/" not in str(p))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def words(identifier: str) -> set[str]:
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)
    return {part.lower() for part in parts}


def retired(path: Path) -> list[str]:
    found = [
        f"{relative(path)}:{line} {name}"
        for line, name in identifiers(ast.parse(path.read_text()))
        if words(name) & RETIRED and not name.startswith("test_")  # tests are named by sentences
    ]
    if words(path.stem) & RETIRED:
        found.append(relative(path))
    return found


def unowned_tasks(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        is_bare = node.func.attr == "create_task" and (
            (isinstance(owner, ast.Name) and owner.id in ("asyncio", "loop"))
            or isinstance(owner, ast.Call)
        )
        if is_bare or node.func.attr == "ensure_future":
            found.append(f"{relative(path)}:{node.lineno}")
    return found


def long_signatures(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
            count = len([n for n in names if n not in ("self", "cls")]) + len(arguments.kwonlyargs)
            if count > MAX_PARAMETERS:
                found.append(f"{relative(path)}:{node.lineno} {node.name} has {count}")
    return found


def built_objects_changed(path: Path) -> list[str]:
    """Finds assignments to attributes of anything but `self` and `cls`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Assign):
            continue
        found += [
            f"{relative(path)}:{node.lineno} {ast.unparse(target)}"
            for target in node.targets
            if isinstance(target, ast.Attribute)
            and not (isinstance(target.value, ast.Name) and target.value.id in ("self", "cls"))
        ]
    return found


def sleeps(path: Path) -> list[str]:
    return [
        f"{relative(path)}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]


CODE = sources(SERVER, WORKERS, SDK)
TESTS = sources(ROOT / "tests")
SLEEPERS = {"polling.py"}


def test_the_root_of_the_server_has_few_modules():
    modules = [p.name for p in SERVER.glob("*.py") if p.name != "__init__.py"]
    assert len(modules) <= MAX_ROOT_MODULES, modules


def test_no_identifier_is_a_retired_word():
    found = [name for path in (*CODE, *TESTS, *sources(ROOT / "tools")) for name in retired(path)]
    assert found == []


def test_every_task_has_an_owner():
    """A TaskGroup, or one of the helpers of `tasks.py`."""
    found = [p for path in CODE if path.name not in TASK_MAKERS for p in unowned_tasks(path)]
    assert found == []


def test_functions_have_few_parameters():
    """The command line is exempt: its parameters are its options."""
    paths = [path for path in (*CODE, *TESTS) if SERVER / "cli" not in path.parents]
    assert [function for path in paths for function in long_signatures(path)] == []


def test_no_wait_swallows_a_cancellation_or_a_wake_up():
    """In Python 3.11, `asyncio.wait_for` and `Condition.notify` can.

    `Condition.notify` wakes one waiter, who may be the wrong one, or cancelled; threads are not.
    """
    found = [
        f"{relative(path)}:{node.lineno} {ast.unparse(node.func)}"
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            ast.unparse(node.func) == "asyncio.wait_for"
            or (node.func.attr == "notify" and path.name not in THREADED)
        )
    ]
    assert found == []


def test_tests_change_no_attribute_of_a_built_object():
    assert [change for path in TESTS for change in built_objects_changed(path)] == []


def test_tests_sleep_only_in_polling_helpers():
    assert [p for path in TESTS if path.name not in SLEEPERS for p in sleeps(path)] == []


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("asyncio.create_task(work())", unowned_tasks),
        ("asyncio.get_running_loop().create_task(work())", unowned_tasks),
        ("def f(a, b, c, d, *, e, f, g): ...", long_signatures),
        ("server.limit = 3", built_objects_changed),
        ("async def f():\n    await asyncio.sleep(1)", sleeps),
        ("def tell_everyone(): ...", retired),
    ],
)
def test_the_rules_find_what_breaks_them(tmp_path, monkeypatch, code, rule):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "x.py"
    file.write_text(code)
    assert len(rule(file)) == 1
