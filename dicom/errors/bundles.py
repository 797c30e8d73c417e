"""Errors of models: bundles, their import, and what they ask of a study."""

from __future__ import annotations

from dicom.errors.families import InputError


class InvalidBundle(InputError):
    """A model bundle that cannot be read, lacks a file or describes itself wrongly."""

    code = "invalid_bundle"
    advice = "Mend or reinstall the bundle; `radloop check` names what is wrong."


class UnknownBundle(InputError):
    """No bundle of that name and version is installed."""

    code = "unknown_bundle"
    advice = "Install the bundle under models/bundles, or mend its name in the route."


class ChangedBundle(InvalidBundle):
    """A bundle is not what this node signed: its files were changed, or its row was."""

    code = "changed_bundle"
    advice = "Put the files back as they were, or give what was changed a version of its own."


class WithdrawnBundle(InputError):
    """A version of a model that was withdrawn; it does not run any more."""

    code = "withdrawn_bundle"
    advice = "Run the study again where a version is current: a route that names none takes it."


class CannotImport(InputError):
    """A model from elsewhere that cannot be made into a bundle."""

    code = "cannot_import"
    advice = "Nothing was installed; mend what is named, and import it again."


class WrongHash(CannotImport):
    """A file of a model is not the one that its list of hashes names."""

    code = "wrong_hash"
    advice = "The model was damaged or changed on its way; get it again from its source."


class MissingCodes(CannotImport):
    """Labels of a model for which no DICOM code is known."""

    code = "missing_codes"
    advice = "Give the named labels codes, with --codes FILE; docs/importing-models.md shows how."


class UnknownLicence(CannotImport):
    """A model that does not say under which licence it may be used."""

    code = "unknown_licence"
    advice = "Find out what its authors allow, and say it with --license."


class CodeRefused(CannotImport):
    """A model that brings code of its own, which nobody has allowed."""

    code = "code_refused"
    advice = "Read the named files; --allow-code imports the model with them."


class UnsuitableSeries(InputError):
    """A series that the bundle's metadata rules out (modality, channels, size)."""

    code = "unsuitable_series"
    advice = "The model was not made for this kind of series; mend the route."


class MissingInput(InputError):
    """A study without a series for one of the images that a model needs."""

    code = "missing_input"
    advice = "The model needs several series; send the named one, or mend how the bundle knows it."


class RegionNotFound(InputError):
    """The first model of a cascade found nothing where the second should look."""

    code = "region_not_found"
    advice = "Look at the series: the organ that the model looks into is absent, or was missed."


class CannotRegister(InputError):
    """Two images that could not be brought onto one another."""

    code = "cannot_register"
    advice = "The images overlap too little or show different parts; look at both series."
