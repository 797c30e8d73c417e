"""MONAI Label's REST interface, so that its client library and 3D Slicer's extension work here.

One file a noun; paths, fields and status codes are those of MONAI Label 0.8. What this node does
not do by this door is refused with a coded message that says where it is done.
"""

from node.monailabel import (
    access,
    datastore,
    infer,
    info,
    orders,
    sampling,
    sessions,
    trainings,
)
from node.monailabel.state import ClientState

ROUTERS = (
    access.router,
    info.router,
    infer.router,
    datastore.router,
    sampling.router,
    sessions.router,
    trainings.router,
    orders.router,
)

__all__ = ["ROUTERS", "ClientState"]
