"""Put one fault at a time into a module of utils/, and see whether the tests of that module notice it.

    python tests/programs/mutants.py [--number 200] [--seed 0] [--modules metrics tables …]

A fault is another number, comparison or sign, `and` for `or`, a condition turned round, or a statement left out; never
in a text, an annotation, zip's `strict`, or what is logged or raised. They are drawn at random from all that there can
be. Each is tried in a copy of the project, by a process forked from this one, which has loaded the libraries. A loop
that does not end is noticed too: by tests that compute four times as long as without a fault.

Prints  a line per fault, caught or SURVIVED, what was changed and in which line; then the shares
"""

import argparse
import ast
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = {  # module -> the files that test it
    "metrics": ["test_metrics.py"],
    "uncertainty": ["test_uncertainty.py"],
    "results": ["test_results.py", "test_tables.py"],
    "tables": ["test_tables.py", "test_results.py"],
    "corpus_load": ["whole/test_malformed_files.py", "test_read_texts.py", "test_corpus_load.py"],
    "training": ["test_training.py"],
}
OTHER = {  # what stands for an operator
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
LEFT_ALONE = (ast.JoinedStr, ast.Import, ast.ImportFrom)


def faults(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield what can be put in the place of a node or of a part of it, as source."""
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if is_docstring or isinstance(node, LEFT_ALONE) or ast.unparse(node).startswith(("log.", "if TYPE_CHECKING")):
        return
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Delete):
        yield node, "pass"
    match node:
        case ast.Raise():
            return
        case ast.Constant(value=bool() as value):
            yield node, repr(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, repr(value + 1 if isinstance(value, int) else 2 * value + 1)
        case ast.Compare(left=left, ops=[first, *rest], comparators=comparators):
            yield node, f"({ast.unparse(ast.Compare(left, [OTHER[type(first)](), *rest], comparators))})"
        case ast.BoolOp(op=op, values=values):
            yield node, f"({ast.unparse(ast.BoolOp(OTHER[type(op)](), values))})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OTHER:
            yield node, f"({ast.unparse(ast.BinOp(left, OTHER[type(op)](), right))})"
        case ast.UnaryOp(operand=operand):
            yield node, f"({ast.unparse(operand)})"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if not isinstance(test, ast.Compare):
            yield test, f"(not ({ast.unparse(test)}))"
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list") and getattr(node, "arg", "") != "strict":
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from faults(child)


def replaced(source: str, node: ast.AST, text: str) -> str:
    """Return the source with a text in the place of a node."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    return (source.encode()[:start] + text.encode() + source.encode()[end:]).decode()


def load_libraries(copy: Path) -> None:
    """Import all that the tests import, and forget what is the project's own: a fork imports that again."""
    sys.dont_write_bytecode = True  # a cached module could be taken for the one with a fault
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.chdir(copy)
    sys.path[:0] = [str(copy / folder) for folder in ("tests", "tests/programs", ".")]
    for name in ("conftest", "test_training", "test_tables", "test_uncertainty", "test_read_texts"):
        importlib.import_module(name)
    for name, module in list(sys.modules.items()):
        if str(copy) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def notices(copy: Path, module: str, limit: int) -> bool:
    """Tell whether a test of the module fails in the copy, in a process that may compute for so many seconds."""
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        signal.alarm(20 * limit)  # for one that waits
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        files = [str(copy / "tests" / name) for name in TESTS[module]]
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", f"--rootdir={copy}", *files]))
    return os.waitpid(process, 0)[1] != 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Put faults into the code, one at a time; do the tests notice?")
    parser.add_argument("--number", type=int, default=200, help="of faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides which (default: %(default)s)")
    parser.add_argument("--modules", nargs="+", choices=TESTS, default=list(TESTS), help="(default: all)")
    args = parser.parse_args()
    sources = {name: (ROOT / "utils" / f"{name}.py").read_text(encoding="utf-8") for name in args.modules}
    drawn = [(name, *fault) for name, source in sources.items() for fault in faults(ast.parse(source))]
    print(f"{len(drawn)} faults can be put into {' '.join(sources)}", flush=True)
    drawn = random.Random(args.seed).sample(drawn, min(args.number, len(drawn)))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        left_out = shutil.ignore_patterns(".git", ".venv", "outputs", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=left_out)
        load_libraries(copy)
        caught = dict.fromkeys(sources, 0)
        for name, source in sources.items():
            began = os.times().children_user
            if notices(copy, name, 3600):
                sys.exit(f"{' '.join(TESTS[name])}: fail without any fault; mend them first")
            limit = 10 + 4 * int(os.times().children_user - began)
            for _, node, text in (one for one in drawn if one[0] == name):
                (copy / "utils" / f"{name}.py").write_text(replaced(source, node, text), encoding="utf-8")
                is_caught = notices(copy, name, limit)
                caught[name] += is_caught
                was = " ".join((ast.get_source_segment(source, node) or "").split())
                place = f"{name}.py:{node.lineno}: {was} -> {text}   in: {source.splitlines()[node.lineno - 1].strip()}"
                print("caught  " if is_caught else "SURVIVED", place, flush=True)
            (copy / "utils" / f"{name}.py").write_text(source, encoding="utf-8")
    for name in sources:
        print(f"{name:12} {caught[name]} of {sum(one[0] == name for one in drawn)}")
    print(f"{sum(caught.values())} of {len(drawn)} caught ({sum(caught.values()) / len(drawn):.0%})")


if __name__ == "__main__":
    main()
