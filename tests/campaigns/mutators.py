"""Mutants of a source file: each one small change that a good suite of tests must notice.

What cannot change behaviour is not generated: annotations, docstrings, decorators, `__slots__`, what only type checkers
see, assertions about the inside, and the texts of messages.
"""

from __future__ import annotations

import ast
import copy
import re
from dataclasses import dataclass
from typing import Any, Final

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_PAIRS: Final = (
    *(("append", "appendleft"), ("extend", "extendleft"), ("popleft", "pop"), ("any", "all")),
    *(("min", "max"), ("break", "continue")),
)
OPPOSITES: Final = {**dict(_PAIRS), **{b: a for a, b in _PAIRS if b != "appendleft"}}
WORD: Final = re.compile(r"[a-z][a-z_]*")
"""A string like this is a name that the code goes by; anything longer is a message."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to one file.

    Attributes:
        path: The file, relative to the root of the checkout.
        line: Where the change is.
        statement: Where the statement begins that holds it.
        where: The class and function around it.
        start: First byte that is replaced.
        end: The byte after the last that is replaced.
        becomes: What stands there now.
        change: Both, in short.
    """

    path: str
    line: int
    statement: int
    where: str
    start: int
    end: int
    becomes: str
    change: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.where}: {self.change}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What names the mutant when lines have moved."""
        return self.path, self.where, self.change

    def applied_to(self, source: bytes) -> bytes:
        """Return the file with the change."""
        return source[: self.start] + self.becomes.encode() + source[self.end :]


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """Return all mutants of a file, in the order of the file."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.offsets = [0]
        for line in source.splitlines(keepends=True):
            self.offsets.append(self.offsets[-1] + len(line))
        self.where: list[str] = []
        self.statement = 0
        self.found: list[Mutant] = []

    def replace(self, node: Any, becomes: str, change: str | None = None) -> None:
        start = self.offsets[node.lineno - 1] + node.col_offset
        end = self.offsets[node.end_lineno - 1] + node.end_col_offset
        if change is None:
            change = " ".join(f"{self.source[start:end].decode()} -> {becomes}".split())
        where = ".".join(self.where) or "-"
        self.found.append(Mutant(self.path, node.lineno, self.statement, where, start, end, becomes, change))

    def vary(self, node: Any, change: str | None = None, **fields: Any) -> None:
        """Replace an expression by itself with other fields."""
        changed = copy.deepcopy(node)
        for name, value in fields.items():
            setattr(changed, name, value)
        self.replace(node, f"({ast.unparse(changed)})", change)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self.statement = node.lineno
        super().visit(node)

    # -- what is left alone -----------------------------------------------------------------------------------------

    def visit_scope(self, node: Any) -> None:
        if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
            return
        self.where.append(node.name)
        if not isinstance(node, ast.ClassDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.where.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_scope  # noqa: N815

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    # -- statements -------------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await):
            self.replace(node, "pass")
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Assign(self, node: Any) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if names & {"__slots__", "__all__"} or "TypeAlias" in ast.unparse(getattr(node, "annotation", node)):
            return
        if node.value is not None and not names:
            self.replace(node, "pass")
        if node.value is not None:
            self.visit(node.value)

    visit_AnnAssign = visit_Assign  # noqa: N815

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.replace(node, "pass")
        other = ARITHMETIC.get(type(node.op))
        if other is not None:
            changed = copy.deepcopy(node)
            changed.op = other()
            self.replace(node, ast.unparse(changed))
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        self.replace(node, "pass")

    def visit_Raise(self, node: ast.Raise) -> None:
        self.replace(node, "pass")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        self.replace(
            node, "pass" if node.value is None or isinstance(node.value, ast.Constant) else "return None"
        )
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self.replace(node, OPPOSITES["break"])

    def visit_Continue(self, node: ast.Continue) -> None:
        self.replace(node, OPPOSITES["continue"])

    def visit_If(self, node: ast.If) -> None:
        test = ast.unparse(node.test)
        body = [] if test == "TYPE_CHECKING" else node.body
        orelse = [] if test == "not TYPE_CHECKING" else node.orelse
        if "TYPE_CHECKING" not in test:
            self.negate(node.test)
            self.visit(node.test)
        for statement in (*body, *orelse):
            self.visit(statement)

    def visit_While(self, node: ast.While) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if isinstance(node.type, ast.Tuple):
            for index in range(len(node.type.elts)):
                self.vary(node.type, elts=[cls for at, cls in enumerate(node.type.elts) if at != index])
        for statement in node.body:
            self.visit(statement)

    def negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            self.replace(test, f"(not {ast.unparse(test)})")

    # -- expressions ------------------------------------------------------------------------------------------------

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.vary(node, body=node.orelse, orelse=node.body)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                self.vary(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.vary(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for index in range(len(node.values)):
            left = [value for at, value in enumerate(node.values) if at != index]
            if len(left) == 1:
                self.replace(node, f"({ast.unparse(left[0])})")
            else:
                self.vary(node, values=left)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.replace(node, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = ARITHMETIC.get(type(node.op))
        if other is not None and not (_is_text(node.left) or _is_text(node.right)):
            self.vary(node, op=other())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace(node, repr(not value))
        elif isinstance(value, int | float):
            self.replace(node, repr(value + 1))
            self.replace(node, f"({value - 1!r})")
        elif isinstance(value, str) and WORD.fullmatch(value):
            self.replace(node, repr(value + "_"))

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        if name == "TypeVar":
            return
        if name in OPPOSITES:
            func = copy.deepcopy(node.func)
            setattr(func, "id" if isinstance(func, ast.Name) else "attr", OPPOSITES[name])
            self.vary(node, func=func)
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                left = [*node.keywords[:index], *node.keywords[index + 1 :]]
                self.vary(node, f"{called}(...) without {keyword.arg}=", keywords=left)
        self.visit(node.func)
        for argument in node.args[1:] if name == "cast" else node.args:
            self.visit(argument)
        for keyword in node.keywords:
            self.visit(keyword.value)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
