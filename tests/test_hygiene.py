"""Every test can fail: it asserts or expects an error on every path, and asserts nothing that always holds."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
EXPECTING = {"raises", "warns", "fail"}  # of pytest
CONTRACT = {"check_method", "check"}  # `tokensieve.testing` and each of its checks raise AssertionError themselves
METHODS = {"all", "any", "endswith", "exists", "is_dir", "is_file", "startswith"}  # true where the call is forgotten
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def called(node: ast.AST) -> str:
    """The name of what a node calls, without what stands before its last dot."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def calls_check(node: ast.AST, helpers: set[str]) -> bool:
    """Whether a piece of code calls an assertion of a library, an expectation of pytest, or a helper that asserts."""
    names = {called(part) for part in ast.walk(node)}
    return bool(names & (EXPECTING | helpers)) or any(name.startswith("assert") for name in names)


def asserting_helpers(trees: Iterable[ast.AST], known: set[str] = CONTRACT) -> set[str]:
    """Names of the functions that assert, themselves or through another of them; fixtures that return one as well."""
    helpers = {function for tree in trees for function in functions(tree) if not function.name.startswith("test_")}
    found, more = set(), known
    while more != found:
        found = more
        more = found | {
            function.name
            for function in helpers
            if any(isinstance(node, ast.Assert) for node in ast.walk(function)) or calls_check(function, found)
        }
    return found


def blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of statements within a statement, but those of functions and classes."""
    if isinstance(statement, (*Function, ast.ClassDef)):
        return []
    parts = [statement, *getattr(statement, "handlers", ()), *getattr(statement, "cases", ())]
    return [block for part in parts for name in ("body", "orelse", "finalbody") if (block := getattr(part, name, []))]


def always_asserts(block: list[ast.stmt], helpers: set[str]) -> bool:
    """Whether every path through a block asserts something; loops count as entered."""
    return any(_asserts(statement, helpers) for statement in block)


def _asserts(statement: ast.stmt, helpers: set[str]) -> bool:
    match statement:
        case ast.Assert():
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return False
        case ast.If(test, body, orelse):
            both = always_asserts(body, helpers) and always_asserts(orelse, helpers)
            return both or calls_check(test, helpers)
        case ast.Match(cases=cases):
            return all(always_asserts(case.body, helpers) for case in cases)
        case ast.With(items, body):
            return any(calls_check(item, helpers) for item in items) or always_asserts(body, helpers)
        case ast.For(body=body) | ast.While(body=body):
            return always_asserts(body, helpers)
        case ast.Try(body=body, finalbody=finalbody):
            return always_asserts(body, helpers) or always_asserts(finalbody, helpers)
        case _:
            return calls_check(statement, helpers)


def returns_first(block: list[ast.stmt], helpers: set[str]) -> bool:
    """Whether a path through a block returns before it has asserted anything."""
    for statement in block:
        if isinstance(statement, ast.Return) or any(returns_first(inner, helpers) for inner in blocks(statement)):
            return True
        if _asserts(statement, helpers):
            return False
    return False


def always_true(test: ast.expr) -> bool:
    """Whether a condition holds whatever the code does."""
    match test:
        case ast.Constant(value):
            return bool(value)
        case ast.Tuple(elements) | ast.List(elements) | ast.Set(elements):
            return bool(elements)
        case ast.JoinedStr() | ast.GeneratorExp() | ast.Lambda():
            return True
        case ast.Attribute(attr=name):
            return name in METHODS
        case ast.UnaryOp(ast.Not(), ast.Constant(value)):
            return not value
        case ast.BoolOp(ast.Or(), values):
            return any(always_true(value) for value in values)
        case ast.Call(ast.Name("isinstance"), [_, ast.Name("object")]):
            return True
        case ast.Compare(left, [ast.GtE()], [ast.Constant(0)]) if called(left) == "len":
            return True
        case ast.Compare(left, [ast.Eq() | ast.LtE() | ast.GtE() | ast.Is()], [right]):
            return same(left, right)
        case _:
            return False


def same(left: ast.expr, right: ast.expr) -> bool:
    """Whether two expressions are one and the same; two calls may differ."""
    calls = any(isinstance(node, ast.Call) for node in ast.walk(left))
    return not calls and ast.dump(left) == ast.dump(right)


def defects(tree: ast.AST, helpers: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and kind of what keeps the tests of a file from failing."""
    for function in functions(tree):
        if function.name.startswith("test_"):
            if not always_asserts(function.body, helpers):
                yield function.lineno, "can end without an assertion"
            if returns_first(function.body, helpers):
                yield function.lineno, "can return before it asserts"
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and always_true(node.test):
            yield node.lineno, "always true"
        if (
            isinstance(node, ast.Call)
            and called(node).startswith("assert")
            and len(node.args) > 1
            and same(*node.args[:2])
        ):
            yield node.lineno, "compared with itself"


def test_every_test_of_the_tree_can_fail():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("*.py"))}
    shared = [tree for path, tree in trees.items() if not path.name.startswith("test_")]
    everywhere = asserting_helpers(shared)
    found = [
        f"{path.relative_to(TESTS)}:{line}: {kind}"
        for path, tree in trees.items()
        for line, kind in defects(tree, asserting_helpers([tree], everywhere))
    ]
    assert len(trees) > len(shared) > 3
    assert found == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("f()", "can end without an assertion"),
        ("if f(): assert g()", "can end without an assertion"),
        ("def inner(): assert f()", "can end without an assertion"),
        ("for x in f():\n        if x: assert g()", "can end without an assertion"),
        ("if f(): return\n    assert g()", "can return before it asserts"),
        ("with f():\n        if g(): return\n        assert g()", "can return before it asserts"),
        ("assert True", "always true"),
        ("assert f(), 'so'\n    assert (f(), 'so')", "always true"),
        ("assert path.is_file", "always true"),
        ("assert len(f()) >= 0", "always true"),
        ("assert x == x", "always true"),
        ("assert f() or 'so'", "always true"),
        ("np.testing.assert_allclose(x, x)", "compared with itself"),
    ],
)
def test_a_test_that_cannot_fail_is_found(body, kind):
    tree = ast.parse(f"def test_it():\n    {body}\n")
    assert kind in {found for _, found in defects(tree, asserting_helpers([tree]))}


@pytest.mark.parametrize(
    "body",
    [
        "assert f() == f()",
        "with pytest.raises(ValueError): f()",
        "if f(): assert g()\n    else: outer(g())",
        "if f():\n        assert g()\n        return\n    assert h()",
        "for x in f(): outer(x)",
        "np.testing.assert_allclose(f(), x)",
    ],
)
def test_a_test_that_can_fail_is_not_found(body):
    tree = ast.parse(f"def outer(x):\n    inner(x)\n\ndef inner(x):\n    assert x\n\ndef test_it():\n    {body}\n")
    assert list(defects(tree, asserting_helpers([tree]))) == []
