"""What each role may do is one table in the docs, and every route keeps to it."""

import re
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from node.auth import ROLES, Guard
from pipelines.store import Role
from tests.node.front import Front, make_front

DOCS = Path(__file__).parents[2] / "docs"
OPEN = "*open*"


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return make_front(tmp_path)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table_of_roles() -> dict[str, frozenset[str]]:
    """Return what the page of operations says: the roles behind each word, and each role's name."""
    lines = (DOCS / "operations.md").read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("| | admin |"))
    roles = cells(lines[at])[1:-1]
    words = {role: frozenset({role}) for role in roles}
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        word, *marks, _what = cells(line)
        words[word] = frozenset(r for r, mark in zip(roles, marks, strict=True) if mark == "yes")
    return words


def told() -> dict[tuple[str, str], frozenset[str] | None]:
    """Return who reaches each route, by the page of routes; None: anybody."""
    words = table_of_roles()
    found: dict[tuple[str, str], frozenset[str] | None] = {}
    for line in (DOCS / "api.md").read_text().splitlines():
        if not line.startswith(("| GET |", "| POST |", "| PUT |", "| PATCH |", "| DELETE |")):
            continue
        method, path, who, *_ = cells(line)
        named = [each.strip() for each in who.split(",")]
        sets = [words[each] for each in named if each in words]
        assert sets or named == [OPEN], f"{method} {path}: nobody knows who {who!r} is"
        for each in re.findall(r"`([^`]+)`", path):  # a row may name several
            found[method, each] = frozenset().union(*sets) if sets else None
    return found


def guarded_for(dependant: Dependant) -> frozenset[str] | None:
    """Return the roles that every guard of a route lets pass; None where it has none."""
    own: frozenset[str] | None = None
    if isinstance(dependant.call, Guard):
        own = frozenset(dependant.call.roles)
    for below in map(guarded_for, dependant.dependencies):
        if below is not None:
            own = below if own is None else own & below
    return own


def test_the_table_has_a_column_for_every_role() -> None:
    words = table_of_roles()
    assert words["all"] == frozenset(ROLES)
    assert words["admin"] == {"admin"}


def test_every_route_lets_those_pass_whom_the_docs_name(front: Front) -> None:
    said = told()
    for route in iter_route_contexts(front.app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or str(route.path).startswith("/fragments/"):
            continue
        for method in set(route.methods or ()):
            if (method, str(route.path)) in said:
                who = said[method, str(route.path)]
                assert guarded_for(dependant) == who, f"{method} {route.path}"


@pytest.mark.parametrize("role", ROLES)
def test_whom_the_docs_do_not_name_is_refused(front: Front, role: Role) -> None:
    client = front.client(role)
    for (method, path), who in told().items():
        if who is None or role in who:
            continue
        filled = path.replace(":path", "").replace("{", "").replace("}", "")
        assert client.request(method, filled).status_code == 403, f"{method} {path}"


def test_a_custodian_sees_no_image(front: Front) -> None:
    client = front.client("custodian")
    assert client.get("/api/studies").status_code == 200
    for path in (
        "/ohif/",
        "/ohif/app-config.js",
        "/dicom-web/studies",
        "/research/dicom-web/studies",
    ):
        assert client.get(path).status_code == 403, path
    page = client.get("/").text
    assert 'href="/ohif/"' not in page
