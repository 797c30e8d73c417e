"""Networks that MONAI does not have; a bundle's ``network_def`` may name them like MONAI's own."""

from models.networks.blocks import BlockNetwork
from models.networks.centres import CentreInferer
from models.networks.meshnet import MeshNet

__all__ = ["BlockNetwork", "CentreInferer", "MeshNet"]
