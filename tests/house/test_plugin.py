"""What Orthanc loads must stand alone, and say under which licence."""

import ast
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "node" / "plugin"
SCRIPT = FOLDER / "radloop_plugin.py"


def imported(script: Path) -> set[str]:
    # Debian 12's Orthanc embeds Python 3.11: the grammar may not be newer.
    tree = ast.parse(script.read_text(), feature_version=(3, 11))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return {name.partition(".")[0] for name in names}


def test_the_plugin_imports_the_standard_library_and_orthanc_only():
    assert imported(SCRIPT) - sys.stdlib_module_names == {"orthanc"}


def test_the_plugin_never_calls_orthancs_rest_api():
    # It would hold Python's lock for the whole call, and with it every other callback.
    calls = {
        node.attr
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert not [name for name in calls if name.startswith("RestApi")]


def test_no_file_beside_it_hides_a_standard_module():
    # Orthanc puts the folder first on sys.path.
    names = {path.stem for path in FOLDER.iterdir()} - {"__pycache__", "__init__"}
    assert not names & sys.stdlib_module_names


def test_the_plugin_is_agpl():
    assert SCRIPT.read_text().startswith("# SPDX-License-Identifier: AGPL-3.0-or-later\n")
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in (FOLDER / "LICENSE").read_text()
