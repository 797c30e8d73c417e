"""DICOM knowledge, pure: no torch, no SQL, no settings, no web server."""
