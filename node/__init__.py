"""Processes and faces: Orthanc's plugin, HTTP, pages, command line, settings, wiring."""
