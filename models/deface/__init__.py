"""Faces taken off volumes of the head: the brain stays as it is, the face cannot be rendered.

`face`      which voxels go, and whether the face is gone: arrays
`portrait`  how the surface looks from outside, before and after
`series`    one DICOM series, defaced; a pass of the de-identifying engine
"""
