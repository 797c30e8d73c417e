"""The written pages: what they point at is there, and what must be written is."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from dicom.errors import every_error
from tests.house.files import ROOT, project_files

PAGES = sorted(path for path in project_files() if path.suffix == ".md")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
FOLDERS = [
    "dicom",
    "models",
    "pipelines",
    "node",
    "ohif-config",
    "docker",
    "tests",
    "benchmarks",
    "docs",
]


def links(page: Path) -> list[str]:
    return LINK.findall(FENCED.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """Return the names that a heading gets (as the usual hosts of git repositories make them)."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / unquote(path)).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    broken = [
        link
        for link in links(page)
        if not re.match(r"[a-z]+:", link) and not leads_somewhere(page, link)
    ]
    assert broken == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_room_says_what_lives_there(folder):
    assert (ROOT / folder / "README.md").is_file()


def test_the_pages_written_from_the_code_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_docs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run scripts/write_docs.py"


def test_a_setting_or_error_without_a_line_would_be_noticed(monkeypatch):
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec and spec.loader
    write_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write_docs)
    assert write_docs.errors_page() == (ROOT / "docs" / "errors.md").read_text()
    monkeypatch.setattr(write_docs, "every_error", lambda: list(every_error())[1:])
    assert write_docs.errors_page() != (ROOT / "docs" / "errors.md").read_text()


def test_every_error_code_is_unique_and_on_its_page():
    codes = [error.code for error in every_error()]
    assert len(set(codes)) == len(codes)
    page = (ROOT / "docs" / "errors.md").read_text()
    assert [code for code in codes if f"`{code}`" not in page] == []


def test_the_index_names_every_page_of_docs():
    index = links(ROOT / "docs" / "README.md")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(index) == set()
