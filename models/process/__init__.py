"""The child process that runs models, and its owner's side.

A GPU error, a segmentation fault or the kernel's out-of-memory killer must end neither the worker
nor the front, and an idle worker must not carry torch. So models run in a child, started afresh as
``python -m models.process`` (never forked), which keeps the last few of them warm.

The two talk over one Unix socket; images and answers lie in anonymous shared memory that travels
with the messages (`messages.py`): nothing touches the disk, and nothing is left behind by a child
that was killed. What MONAI prints goes to the child's own output and cannot disturb the talk.

=======================================  =======================================================
What happens                             What the caller gets
=======================================  =======================================================
the child says a coded error             that error; the child goes on
the child meets an unexpected error      :class:`PredictorFault` with its traceback; a new child
                                         is started by the next call, since a GPU error sticks
the child dies over a question           :class:`dicom.errors.PredictorDied`; likewise
the child died before it took a question nothing: a new child is asked, once
no answer in time                        :class:`dicom.errors.PredictorTimeout`; it is killed
the owner dies                           the child ends by itself
=======================================  =======================================================
"""

from models.process.owner import PredictorFault, PredictorProcess

__all__ = ["PredictorFault", "PredictorProcess"]
