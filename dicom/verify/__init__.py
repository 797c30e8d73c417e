"""The second look: whether anything of a patient is left in what was de-identified.

Independent of the engine that wrote the file. It looks in two ways, and knows the profile's table
but none of the code that carries it out:

- every name, identifier, UID, address, contact and date of the originals is searched in the raw
  bytes of the file, in every character set that DICOM names, wherever the bytes stand: headers,
  items to any depth, private and unknown attributes, file meta information, preamble, what follows
  the pixels, and the file's own name. Pixel values alone are left out: text that is drawn is read
  by :mod:`dicom.verify.pixels`, where it is asked for.
- the file is parsed anew (pydicom, raw elements), and Table E.1-1 is held against it: what had to
  go is gone, what had to change is not what stood there.

A finding names the rule and the attribute, never the value.
"""

from dicom.verify.look import Finding, SecondLook
from dicom.verify.tokens import Before, Originals, Tokens

__all__ = ["Before", "Finding", "Originals", "SecondLook", "Tokens"]
