"""Names that are ours alone, files that could lie on any machine, and three doors for mistakes."""

import ast
import re
import tomllib
from importlib.metadata import distributions

import pytest

from tests.house.files import ROOT, project_files, texts

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "root_packages"
]

# In pieces, so that this file does not find itself.
OF_ONE_MACHINE = re.compile(
    "|".join(
        (
            r"(?<![\w.~>}])/" + "wor" + r"k/",
            r"(?<![\w.])/" + r"root/",
            r"(?<![\w.])/home/" + r"\w+/",
            "/tmp/" + "setup",
        )
    )
)
OF_HOW_IT_WAS_MADE = re.compile(
    "|".join(("cla" + "ude", "anthr" + "opic", "co-auth" + "ored-by", "language " + "model")), re.I
)

# Where a mistake of ours may be met by `except Exception`, each logging its traceback.
DOORS = {"node/answers.py": 1, "pipelines/engine.py": 1}


def test_no_installed_distribution_claims_our_names():
    claims: dict[str, set[str]] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name == "radloop":
            continue
        for file in distribution.files or ():
            claims.setdefault(file.parts[0].removesuffix(".py"), set()).add(name)
    assert "numpy" in claims  # the list is no empty one
    assert {name: claims[name] for name in PACKAGES if name in claims} == {}


@pytest.mark.parametrize("pattern", [OF_ONE_MACHINE, OF_HOW_IT_WAS_MADE])
def test_no_file_says_where_or_how_it_was_made(pattern):
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts(project_files())
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ["see /wor" + "k/shared", "cd /ro" + "ot/x", "/home/me" + "/study", "By Cla" + "ude"]
)
def test_such_a_line_would_be_found(line):
    assert OF_ONE_MACHINE.search(line) or OF_HOW_IT_WAS_MADE.search(line)


@pytest.mark.parametrize("line", ["tests/work/x", "<data>/work/JOB", "../shared/data", "/work"])
def test_an_innocent_line_is_left_alone(line):
    assert not OF_ONE_MACHINE.search(line)


def catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {kind.id if isinstance(kind, ast.Name) else None for kind in kinds}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def test_everything_is_caught_at_the_doors_alone():
    found: dict[str, int] = {}
    for path in project_files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix != ".py" or not name.startswith(tuple(f"{p}/" for p in PACKAGES)):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and catches_everything(node):
                found[name] = found.get(name, 0) + 1
    assert found == DOORS


@pytest.mark.parametrize(
    "code", ["except:", "except Exception:", "except (OSError, BaseException) as e:"]
)
def test_another_door_would_be_found(code):
    (handler,) = ast.parse(f"try:\n    pass\n{code}\n    pass\n").body[0].handlers
    assert catches_everything(handler)
