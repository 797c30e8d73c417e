"""Models from elsewhere made into bundles of this node; each kind of source has its file."""
