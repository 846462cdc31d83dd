"""Which operator, name or call stands for which other."""

import ast

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
"""Each to the bound moved by one, and to its opposite."""

ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}

RENAMED = {
    "sum": "mean", "mean": "sum", "amax": "amin", "amin": "amax", "max": "min", "min": "max", "argmax": "argmin",
    "argmin": "argmax", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor", "minimum": "maximum",
    "maximum": "minimum", "zeros_like": "ones_like", "ones_like": "zeros_like", "zeros": "ones", "ones": "zeros",
    "log1p": "log", "expm1": "exp", "rand": "randn", "randn": "rand", "lower_bound": "upper_bound", "ndtr": "ndtri",
}  # fmt: skip
"""Functions and methods for others that take the same arguments."""

BUILTINS = {"max", "min", "any", "all"}
"""Of the renamed those that are also called without an object before them."""

DROPPED = {
    "abs", "clamp", "clamp_min", "clamp_max", "clone", "cumsum", "detach", "double", "exp", "exp_", "flip", "log",
    "log_softmax", "mean", "neg", "norm", "requires_grad_", "round", "sign", "softmax", "sort", "sqrt", "square", "sum",
    "trunc", "unique",
}  # fmt: skip
"""Methods that may be left out, so that what they are called on stays as it is."""

UNWRAPPED = {"project", "clip", "sqrt", "max", "min", "exp", "log", "ceil", "floor", "round", "abs", "sorted", "sign"}
"""Functions that may be left out, so that their first argument stays as it is."""

SYMMETRIC = {"isinstance", "getattr", "issubclass", "max", "min", "maximum", "minimum", "equal", "broadcast_arrays"}
"""Functions whose first two arguments are not exchanged: it changes nothing, or is an error at once."""

SILENT = {"strict", "device", "text", "dtype", "enabled", "memory_format", "exist_ok", "parents", "of"}
"""Keywords that are left alone: they change no result on one machine, or only what is said."""

SETTINGS = {
    "learning_rate",
    "step_size",
    "eps",
    "sigma",
    "rate",
    "alpha",
    "beta",
    "tolerance",
    "decay",
    "max_shift",
    "watermark",
}
"""Numbers that are handed on, and may be handed on five times as large."""

MUTE = {"errstate"}
"""Calls that are left alone: they change what is warned of."""
