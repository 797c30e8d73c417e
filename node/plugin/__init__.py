"""What runs inside Orthanc: one file, standard library and ``orthanc`` only (AGPL-3.0-or-later)."""
