"""Errors of datasets and training."""

from __future__ import annotations

from dicom.errors.families import InputError
from dicom.errors.requests import Conflict


class InvalidDataset(InputError):
    """A dataset is not whole, or says something that cannot be."""

    code = "invalid_dataset"
    advice = "Mend what the message names, then import or freeze the dataset again."


class PatientInTwoSplits(InvalidDataset):
    """A patient's cases are in more than one split: what is tested would have been learnt from."""

    code = "patient_in_two_splits"
    advice = "Split by patient; give all cases of a patient the same pseudonym and split."


class LabelsDoNotMatch(InvalidDataset):
    """Labels lie on another grid than their image, or hold values that nothing describes."""

    code = "labels_do_not_match"
    advice = "Bring labels and image onto one grid, and describe every value that occurs."


class InvalidGraph(InputError):
    """An augmentation graph that cannot be carried out; the message names the node and field."""

    code = "invalid_graph"
    advice = "Mend the node that the message names; docs/training.md describes every kind."


class CannotTrain(InputError):
    """Nothing can be learnt from the dataset as it is."""

    code = "cannot_train"
    advice = "The message says what is in the way: add cases, mend labels, or ask for another task."


class AnotherTraining(CannotTrain):
    """A training of that name and version was begun with other settings, and has not ended."""

    code = "another_training"
    advice = "Go on with the options it was begun with, or give a new one a version of its own."


class InvalidPlan(InputError):
    """A training plan whose parts do not fit each other, the data or the device."""

    code = "invalid_plan"
    advice = "Change the field that the message names, or let the node plan it."


class InvalidRecipe(InputError):
    """A training recipe that is wrong, or is not for the dataset; the message names the place."""

    code = "invalid_recipe"
    advice = "Import the dataset by the recipe (--recipe), or train without one."


class TrainingDiverged(InputError):
    """The loss is not a number any more; the last good checkpoint stays."""

    code = "training_diverged"
    advice = "Lower the learning rate, or look for constant or broken images in the dataset."


class InvalidDesign(InvalidPlan):
    """A network whose blocks do not fit together, or not on the patch; the message names one."""

    code = "invalid_design"
    advice = "Change the block that the message names; nothing has run yet."


class OutsideBudget(InputError):
    """A training used up the time that it was given before anything was learnt."""

    code = "training_out_of_time"
    advice = "Give it more minutes, a smaller patch, or a device that is faster."


class NotBetter(Conflict):
    """A version that is not better than the current one, by the policy of promotion."""

    code = "not_better"
    advice = "Look at its figures; a person may still promote it, and says why."


class UnfitForCluster(InputError):
    """Something else than de-identified arrays was about to leave for a cluster; nothing left."""

    code = "unfit_for_cluster"
    advice = "Train here, or freeze the dataset again; if neither helps, report it as a bug."
