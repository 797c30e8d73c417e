"""What comes of a training: a candidate with card and figures, signed, installed, decided on."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from dicom.errors import RadloopError
from models.bundle import Bundle, read_bundle
from models.greys import taught_by, write_taught
from models.learning.cases import first_channels
from models.learning.comparison import Comparison
from pipelines.learning.judging import judge
from pipelines.learning.promoting import Policy, promote_by_figures, sign
from pipelines.learning.reporting import write_docs
from pipelines.learning.school import School
from pipelines.store import EvaluationView, TrainingView, new_evaluation_id

log = structlog.get_logger()

_ACTOR: Final = "radloop"


def candidate_of(school: School, training: TrainingView) -> Bundle:
    """Return the candidate where it lies: in the run's folder, or installed already."""
    made = school.run_folder(training.id) / "bundle" / training.bundle
    return read_bundle(made if made.is_dir() else school.bundles / training.bundle)


def decide(school: School, training: TrainingView, policy: Policy) -> None:
    """Write card and report, sign the candidate, keep its figures, and ask the policy.

    Whoever is killed within may do it again.

    Parameters
    ----------
    training : TrainingView
        Whose candidate was measured: the figures lie in its folder.
    policy : Policy
        Of the rule that asked for it, or of people.
    """
    folder = school.run_folder(training.id)
    test = _comparison(folder / "test")
    shadow = _comparison(folder / "shadow") if (folder / "shadow").is_dir() else None
    said = judge(test, policy, shadow=shadow)
    bundle = candidate_of(school, training)
    data = school.shelf.get(training.dataset)
    dataset = data.dataset
    write_taught(bundle.root / "docs", taught_by(first_channels(data)))
    write_docs(bundle, dataset, test, verdict=said.why, pictures=folder / "test", shadow=shadow)
    sign(school, bundle, by=_ACTOR, dataset=dataset.identity, training_id=training.id)
    _keep_figures(school, "test", test, said.accepted, said.why)
    if shadow is not None:
        _keep_figures(school, "shadow", shadow, None, said.why)
    installed = _install(school, bundle)
    school.trainings.made(training.id, installed.identity)
    if policy.way != "policy":
        return
    evaluation = next(
        one for one in school.versions.evaluations(bundle.identity) if one.split == "test"
    )
    try:
        promote_by_figures(school, installed.identity, evaluation, by=f"rule {training.rule}")
    except RadloopError as error:  # not better: that is noted, and the version stays
        log.info("not_promoted", code=error.code)


def _install(school: School, bundle: Bundle) -> Bundle:
    """Put a signed bundle where the registry looks; it appears whole."""
    target = school.bundles / bundle.identity
    if not target.exists():
        half = target.with_name(f".{target.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(bundle.root, half)  # the folders may lie on two file systems
        half.replace(target)
    return read_bundle(target)


def _keep_figures(
    school: School, split: str, figures: Comparison, accepted: bool | None, verdict: str
) -> None:
    known = school.versions.evaluations(figures.candidate.bundle)
    if any(one.split == split and one.dataset == figures.dataset for one in known):
        return
    school.versions.keep_evaluation(
        EvaluationView(
            id=new_evaluation_id(),
            bundle=figures.candidate.bundle,
            bundle_sha256=figures.candidate.sha256,
            against=figures.incumbent.bundle if figures.incumbent else None,
            dataset=figures.dataset,
            dataset_sha256=figures.dataset_sha256,
            split=split,
            figures=figures.model_dump(mode="json"),
            accepted=accepted,
            verdict=verdict,
            created_at=datetime.now(UTC),
        )
    )


def _comparison(folder: Path) -> Comparison:
    return Comparison.model_validate_json((folder / "done.json").read_bytes())
