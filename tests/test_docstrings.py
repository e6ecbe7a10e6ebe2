"""What stands in docstrings, and what must have one beside what ruff asks for."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("fer_lightning", "tests", "docs") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_names_are_plain_code_and_no_roles_of_another_program() -> None:
    role = re.compile(r":[a-z]+:[`]")
    found = [str(path) for path in SOURCES if path != Path(__file__) and role.search(path.read_text(encoding="utf-8"))]
    assert not found, "write ``name`` instead"


def test_every_public_constant_says_what_it_is() -> None:
    lacking = []
    for path in (path for path in SOURCES if path.is_relative_to(ROOT / "fer_lightning")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        constants = {
            target.id: isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            for node, after in pairwise([*body, ast.Pass()])
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        lists = [node for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
        exported = ast.literal_eval(lists[0].value) if lists else ()
        lacking += [f"{path.name}: {name}" for name in exported if constants.get(name) is False]
    assert not lacking
