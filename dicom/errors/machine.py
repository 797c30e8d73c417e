"""Errors of this machine: memory, disk, programs, processes."""

from __future__ import annotations

from dicom.errors.families import ResourceError


class PredictorDied(ResourceError):
    """The child process that runs models ended (killed, out of memory, segmentation fault)."""

    code = "predictor_died"
    advice = "The model's process died, most often for lack of memory; it is started again."


class PredictorTimeout(ResourceError):
    """A prediction did not end in its time."""

    code = "predictor_timeout"
    advice = "The model took too long on this machine; raise predictor.timeout_s or use a GPU."


class OutOfMemory(ResourceError):
    """A prediction needs more memory, of the GPU or of the machine, than is free."""

    code = "out_of_memory"
    advice = "Not enough memory for this volume; free some, or use a larger machine or GPU."


class MissingDevice(ResourceError):
    """The GPU that the settings name is not there, or was lost."""

    code = "missing_device"
    advice = "Check the GPU and its driver (`nvidia-smi`), or set predictor.device to auto or cpu."


class DiskFull(ResourceError):
    """No room left where radloop keeps its data."""

    code = "disk_full"
    advice = "Free disk space under the data folder; work goes on by itself."


class MissingProgram(ResourceError):
    """A program that radloop starts (Orthanc, ...) is not installed."""

    code = "missing_program"
    advice = "Install the named program; `make install` does it on Debian."


class MissingPackage(ResourceError):
    """A Python package that only some models need is not installed."""

    code = "missing_package"
    advice = "Install the named extra into radloop's environment, and try again."


class ProgramFailed(ResourceError):
    """A program that radloop starts ended again and again before it was ready."""

    code = "program_failed"
    advice = "Look into the program's log file under logs/ in the data folder."


class PortTaken(ResourceError):
    """A TCP port that radloop shall listen on is used by another program."""

    code = "port_taken"
    advice = "Stop the other program, or choose another port in radloop.toml."


class TrainerDied(ResourceError):
    """The process that learns was ended from outside, again and again."""

    code = "trainer_died"
    advice = "Look into logs/ of the data folder; most often the memory was too small for the plan."


class Preempted(ResourceError):
    """The machine that learns was wanted for something else; a checkpoint was written."""

    code = "training_preempted"
    advice = "Nothing is lost: the training goes on from its checkpoint when it gets a machine."
