"""Which seeded defects do these tests find? Each mutant is one small change of a module, drawn with a seed.

    python -m bench.mutants voiceflow_worker/model/jobs/evidence.py --draw 30 --seed 1 -- tests/model

The module is changed in place and put back. Printed is each mutant that no test has noticed, and the count.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_OTHER: dict[type, type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mult: ast.Add,
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """The line of each change, the code there after it, and the whole module."""
    tree = ast.parse(source)
    for place, node in enumerate(ast.walk(tree)):
        for field, value in ((name, getattr(node, name, None)) for name in ("ops", "op", "test", "value", "elts")):
            change = _changed(node, field, value)
            if change is None:
                continue
            changed = copy.deepcopy(tree)
            target = next(each for index, each in enumerate(ast.walk(changed)) if index == place)
            setattr(target, field, change)
            ast.fix_missing_locations(changed)
            yield getattr(node, "lineno", 0), ast.unparse(target)[:110], ast.unparse(changed)


def _changed(node: ast.AST, field: str, value: object) -> object | None:
    if field == "ops" and isinstance(value, list) and (other := _OTHER.get(type(value[0]))):
        return [other(), *value[1:]]
    if field == "op" and isinstance(node, ast.BoolOp | ast.BinOp) and (other := _OTHER.get(type(value))):
        return other()
    if field == "test" and isinstance(value, ast.expr):
        return ast.UnaryOp(op=ast.Not(), operand=value)
    if field == "value" and isinstance(node, ast.Constant) and type(value) in {int, bool}:
        return not value if isinstance(value, bool) else value + 1  # type: ignore[operator]
    if field == "elts" and isinstance(node, ast.Set) and len(node.elts) > 1:
        return node.elts[1:]
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("--draw", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("tests", nargs="+", help="what pytest is given, after --")
    given = parser.parse_args()
    source = given.module.read_text()
    drawn = random.Random(given.seed).sample(found := [*mutants(source)], min(given.draw, len(found)))
    noticed = 0
    try:
        for line, code, module in drawn:
            given.module.write_text(module)
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                "--timeout=300",
                *given.tests,
            ]
            ran = subprocess.run(command, capture_output=True, check=False)
            noticed += ran.returncode == 1
            if ran.returncode != 1:
                sys.stdout.write(f"unnoticed ({ran.returncode}): line {line}: {code}\n")
    finally:
        given.module.write_text(source)
    sys.stdout.write(f"{noticed} of {len(drawn)} noticed, of {len(found)} that can be drawn\n")


if __name__ == "__main__":
    main()
