"""Bundles, prediction and training: arrays in, arrays out."""
