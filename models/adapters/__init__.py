"""What models of other frameworks need around their network; a bundle's configuration names it.

A framework's own package is imported where one of its networks is built, and not before.
"""

from models.adapters.nnunet import EvenWindows, NnunetNetwork, NnunetPreprocessd, NnunetRestored

__all__ = ["EvenWindows", "NnunetNetwork", "NnunetPreprocessd", "NnunetRestored"]
