"""Settings: nothing misspelt does nothing in silence, and what is nearer wins."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from dicom.errors import InvalidSettings
from node.settings import Settings, load_settings
from tests.house.files import ROOT


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("RADLOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADLOOP_SECRETS", str(tmp_path / "no secrets"))


def load(tmp_path: Path, text: str = "") -> Settings:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return load_settings(path)


def refused(tmp_path: Path, text: str = "") -> str:
    with pytest.raises(InvalidSettings) as raised:
        load(tmp_path, text)
    return raised.value.message


PACS = """
[[peer]]
name = "pacs"
aet = "PACS"
host = "10.0.0.5"
port = 104
"""
ROUTE = """
[[route]]
name = "head"
bundle = "mr_brain"
destinations = ["pacs"]
[route.when]
modality = ["MR"]
min_slices = 20
"""


# --- what is right ------------------------------------------------------------------------------


def test_without_a_file_every_setting_has_a_default(tmp_path):
    settings = load_settings()
    assert (settings.front.port, settings.dicom.port, settings.dicom.aet) == (8000, 4242, "RADLOOP")
    assert (settings.orthanc.clinical_port, settings.orthanc.research_port) == (8042, 8043)
    assert settings.data == Path(".radloop")


def test_the_file_in_the_working_folder_is_read(tmp_path):
    (tmp_path / "radloop.toml").write_text("[front]\nport = 8800\n")
    assert load_settings().front.port == 8800


def test_peers_routes_and_their_conditions_are_read(tmp_path):
    settings = load(tmp_path, PACS + ROUTE)
    assert settings.peer[0].aet == "PACS"
    assert settings.route[0].when.modality == ("MR",)
    assert settings.route[0].destinations == ("pacs",)


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RADLOOP_FRONT__PORT", "8900")
    settings = load(tmp_path, "[front]\nport = 8800\nidle_minutes = 5\n")
    assert (settings.front.port, settings.front.idle_minutes) == (8900, 5)


def test_a_secret_wins_over_the_environment_and_reaches_any_depth(tmp_path, monkeypatch):
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "RADLOOP_ORTHANC__CLINICAL_PASSWORD").write_text("from a file, with space\n")
    (folder / "radloop_admin_password").write_text("likewise\n")
    (folder / "somebody_elses").write_text("x")
    monkeypatch.setenv("RADLOOP_SECRETS", str(folder))
    monkeypatch.setenv("RADLOOP_ADMIN_PASSWORD", "from the environment")
    settings = load_settings()
    assert settings.orthanc.clinical_password == "from a file, with space"
    assert settings.orthanc.user == "radloop"
    assert settings.admin_password == "likewise"


def test_the_data_folder_of_the_command_line_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("RADLOOP_DATA", "/elsewhere")
    assert load_settings(data=tmp_path).data == tmp_path
    assert load_settings().data == Path("/elsewhere")


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named", "hint"),
    [
        ("[front]\nprot = 1\n", "front.prot", "did you mean port?"),
        ("[fornt]\nport = 1\n", "fornt", "did you mean front?"),
        (PACS + "may_sent = true\n", "peer.0.may_sent", "did you mean may_send?"),
        (ROUTE.replace("modality", "modalities"), "route.0.when.modalities", "modality?"),
        (ROUTE.replace("bundle", "bundel"), "route.0.bundel", "did you mean bundle?"),
    ],
)
def test_a_misspelt_key_is_named_with_a_hint(tmp_path, text, named, hint):
    message = refused(tmp_path, text)
    assert f"{named}: there is no such setting" in message
    assert hint in message


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("RADLOOP_FORNT__PORT", "RADLOOP_FRONT__PORT?"),
        ("RADLOOP_FRONT_PORT", "RADLOOP_FRONT__PORT?"),
        ("RADLOOP_ADMIN_PASSWD", "RADLOOP_ADMIN_PASSWORD?"),
        ("RADLOOP_FRONT__PROT", "did you mean port?"),
        ("radloop_fornt__port", "RADLOOP_FRONT__PORT?"),
    ],
)
def test_a_misspelt_variable_is_named_with_a_hint(tmp_path, monkeypatch, variable, hint):
    monkeypatch.setenv(variable, "1")
    assert hint in refused(tmp_path)


def test_a_misspelt_secret_is_named_with_a_hint(tmp_path, monkeypatch):
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "RADLOOP_DATABASE_URL").write_text("postgresql://x")
    monkeypatch.setenv("RADLOOP_SECRETS", str(folder))
    assert "did you mean RADLOOP_DATABASE__URL?" in refused(tmp_path)


def test_every_mistake_is_in_one_message(tmp_path):
    message = refused(tmp_path, "[front]\nprot = 1\nport = 99999\n[log]\nlevel = 'loud'\n")
    assert all(word in message for word in ("front.prot", "front.port", "log.level"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PACS + PACS, "peer 'pacs' is there twice"),
        (PACS + ROUTE + ROUTE, "route 'head' is there twice"),
        (ROUTE, "route 'head' sends to 'pacs', which is no [[peer]]"),
        (PACS.replace('"pacs"', '"archive"'), "cannot be called 'archive'"),
        (PACS.replace('"pacs"', '"radloop"'), "cannot be called 'radloop'"),
        (PACS.replace('"PACS"', '"A TITLE THAT IS TOO LONG"'), "peer.0.aet"),
        (PACS.replace('"pacs"', '"a|b"'), "peer.0.name"),
        (PACS.replace("port = 104", ""), "peer.0.port: is missing"),
        (PACS + ROUTE.replace('["MR"]', '["MR"]\ndescription = "("'), "no regular expression"),
        (PACS + ROUTE.replace("min_slices = 20", 'min_slices = "many"'), "min_slices"),
        (PACS + ROUTE.replace("min_slices = 20", 'orientation = ["tilted"]'), "orientation"),
        ("[[route]]\nname = 'idle'\n", "neither runs a bundle nor collects"),
        ("[[route]]\nname = 'x'\nbundle = 'b'\npriority = 'urgent'\n", "priority"),
        ("[predictor]\nwarm_models = 0\n", "predictor.warm_models"),
        ("this is no toml", "is no TOML"),
    ],
)
def test_what_cannot_be_is_refused_in_plain_words(tmp_path, text, said):
    message = refused(tmp_path, text)
    assert said in message
    assert "Value error" not in message
    assert "pydantic" not in message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidSettings, match="there is no settings file"):
        load_settings(tmp_path / "nowhere.toml")


def test_the_settings_that_are_shipped_are_valid():
    assert load_settings(Path(__file__).parents[2] / "radloop.toml").route


def test_every_setting_is_read_somewhere():
    code = "\n".join(
        path.read_text()
        for folder in ("node", "pipelines")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != ROOT / "node/settings.py"
    )
    named = list(fields_of(Settings))
    assert len(named) > 80
    assert [name for name in named if not re.search(rf"\.{name}\b", code)] == []


def fields_of(section: type[BaseModel]) -> Iterator[str]:
    """Yield the names of a section's settings, and of those in it."""
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        within = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not within:
            yield name
        for kind in within:
            yield from fields_of(kind)
