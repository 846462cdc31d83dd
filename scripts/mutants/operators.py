"""Every fault that can be planted in a source file.

Left alone are texts (docstrings, messages, f-strings), annotations, decorators, assertions, imports, and the defaults of
arguments: a test that repeats a default would only have to be changed with it.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator

from scripts.mutants import tables
from scripts.mutants.mutant import Mutant


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of a file, in the order of their places.

    Args:
        file: Its path, relative to the repository.
        source: Its content.
    """
    finder = _Finder(file, source)
    for node in ast.parse(source).body:
        finder.enter(node)
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end, mutant.after))


class _Finder(ast.NodeVisitor):
    """Walks a file and collects what can go wrong at each node."""

    def __init__(self, file: str, source: str) -> None:
        self.file, self.content, self.top, self.tree = file, source.encode(), (0, 0), ""
        self.starts = [0]
        for line in self.content.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.place: list[str] = []
        self.lines = (1, 1)
        self.seen: Counter[tuple[str, ...]] = Counter()
        self.same_side: set[int] = set()
        self.found: list[Mutant] = []

    # What is walked over.

    def enter(self, node: ast.stmt) -> None:
        """Walk over a statement at the top of the file, which is read again with each of its mutants."""
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        self.top = self.starts[first - 1], self.starts[node.end_lineno or node.lineno]
        self.tree = ast.dump(ast.parse(self.content[slice(*self.top)]))
        self.visit(node)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self.lines = _head(node)
        if not (isinstance(node, ast.Call) and _name(node.func) in tables.MUTE):
            for start, end, after, kind in _faults(self, node):
                self._plant(start, end, after, kind)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr | ast.Raise):
            return
        if isinstance(node, ast.keyword) and node.arg in tables.SILENT:
            return
        if isinstance(node, ast.AnnAssign):
            self._visit_all([node.value])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.place.append(node.name)
            self._visit_all(node.body)
            self.place.pop()
        elif isinstance(node, ast.Lambda):
            self.visit(node.body)
        else:
            self.generic_visit(node)

    def _visit_all(self, nodes: list[ast.stmt] | list[ast.expr | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    # Bytes of the file.

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        start, end = self.span(node)
        return self.content[start:end].decode()

    def between(self, left: ast.expr, right: ast.expr, token: str) -> tuple[int, int] | None:
        """Where an operator stands between its operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        pattern = rf"\b{token}\b".replace(" ", r"\s+") if token[0].isalpha() else re.escape(token)
        found = re.search(pattern.encode(), self.content[start:end])
        return None if found is None else (start + found.start(), start + found.end())

    def _plant(self, start: int, end: int, after: str, kind: str) -> None:
        before = self.content[start:end].decode()
        changed = self.content[self.top[0] : start] + after.encode() + self.content[end : self.top[1]]
        try:
            if ast.dump(ast.parse(changed)) == self.tree:
                return
        except SyntaxError:
            return
        same = (".".join(self.place), kind, before, after)
        place = ".".join(self.place)
        line = self.content.count(b"\n", 0, start) + 1
        self.found.append(Mutant(self.file, place, kind, before, after, self.seen[same], start, end, line, self.lines))
        self.seen[same] += 1


def _head(node: ast.stmt) -> tuple[int, int]:
    """Lines of a statement; of one that holds others those before the first of them."""
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        return node.lineno, max(node.lineno, body[0].lineno - 1)
    return node.lineno, node.end_lineno or node.lineno


Fault = tuple[int, int, str, str]


def _faults(at: _Finder, node: ast.AST) -> Iterator[Fault]:
    match node:
        case ast.Compare():
            # Five times as large it is on the same side of 0.
            if any(isinstance(one, ast.Constant) and one.value == 0 for one in node.comparators):
                at.same_side.add(id(node.left))
            operands = [node.left, *node.comparators]
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                token, others = tables.COMPARISONS[type(operator)]
                if where := at.between(left, right, token):
                    yield from ((*where, other, "comparison") for other in others)
        case ast.BinOp() if not _is_text(node.left) and not _is_text(node.right) and type(node.op) in tables.ARITHMETIC:
            token, other = tables.ARITHMETIC[type(node.op)]
            if where := at.between(node.left, node.right, token):
                yield *where, other, "arithmetic"
        case ast.BoolOp():
            token, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                if where := at.between(left, right, token):
                    yield *where, other, "boolean"
        case ast.UnaryOp():
            kind = "sign" if isinstance(node.op, ast.USub) else "boolean"
            yield *at.span(node), f"({at.text(node.operand)})", kind
        case ast.Constant():
            yield from ((*at.span(node), other, "constant") for other in _constants(node.value))
        case ast.expr() if (
            _name(node) in tables.SETTINGS and id(node) not in at.same_side and isinstance(getattr(node, "ctx", None), ast.Load)
        ):
            yield *at.span(node), f"(5 * {at.text(node)})", "setting times five"
        case ast.IfExp():
            yield *at.span(node), f"({at.text(node.orelse)} if {at.text(node.test)} else {at.text(node.body)})", "condition"
        case ast.If() if not isinstance(node.test, ast.Compare):
            yield *at.span(node.test), f"not ({at.text(node.test)})", "condition"
        case ast.Call():
            yield from _calls(at, node)
        case ast.AugAssign() if type(node.op) in tables.ARITHMETIC:
            token, other = tables.ARITHMETIC[type(node.op)]
            if where := at.between(node.target, node.value, f"{token}="):
                yield *where, f"{other}=", "arithmetic"
            yield *at.span(node), "pass", "statement left out"
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Break() | ast.Continue():
            yield *at.span(node), "pass", "statement left out"
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield *at.span(node), "return None", "nothing returned"


def _constants(value: object) -> list[str]:
    if isinstance(value, bool):
        return [str(not value)]
    if isinstance(value, int):
        return [str(value + 1), str(value - 1)] if value > 1 else [str(value + 1)]
    return [repr(5 * value if value else 1.0)] if isinstance(value, float) else []


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _name(node: ast.expr) -> str:
    """Of a variable, or of the attribute that is asked for."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _may_move(argument: ast.expr) -> bool:
    """Whether an argument may stand for its neighbour: none that is always an error there, such as a text or a type."""
    return not _is_text(argument) and not isinstance(argument, ast.Starred) and "64" not in ast.unparse(argument)


def _calls(at: _Finder, node: ast.Call) -> Iterator[Fault]:
    start, end = at.span(node)
    function, name = at.text(node.func), _name(node.func)
    method = isinstance(node.func, ast.Attribute)
    if isinstance(node.func, ast.Attribute) and name in tables.DROPPED:
        yield start, end, at.text(node.func.value), "call left out"
    if name in tables.UNWRAPPED and node.args and (not method or function.startswith(("np.", "self.budget."))):
        yield start, end, at.text(node.args[0]), "call left out"
    if name in tables.RENAMED and (method or name in tables.BUILTINS):
        after = at.span(node.func)[1]
        yield after - len(name), after, tables.RENAMED[name], "another function"
    given: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    parts = [at.text(part) for part in given]
    if len(node.args) > 1 and name not in tables.SYMMETRIC and all(map(_may_move, node.args[:2])):
        yield start, end, f"{function}({', '.join([parts[1], parts[0], *parts[2:]])})", "arguments exchanged"
    for place, keyword in enumerate(node.keywords, len(node.args)):
        if keyword.arg is not None and keyword.arg not in tables.SILENT:
            kept = parts[:place] + parts[place + 1 :]
            yield start, end, f"{function}({', '.join(kept)})", "argument left out"
