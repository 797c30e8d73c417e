"""Networks as data: blocks that are drawn, changed, checked and built.

No torch here, so that a page can show what a network comes to, and refuse an impossible one,
without loading it; :class:`models.networks.BlockNetwork` is built from the same document.
"""
