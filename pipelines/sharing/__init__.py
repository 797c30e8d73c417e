"""Datasets for others: what people pick is collected for a project, and exported, durably.

===============  ================================================================================
`collecting`     a collection, study after study, into the research archive
`exporting`      an export: from the research archive to files that may leave
`gate`           the second look at what leaves, patient by patient
`files`          where an export's files lie, and what they say of themselves
===============  ================================================================================

Both are workflows in a queue of their own, one at a time and after everything else: nobody's result
waits for a dataset. The front imports `files` alone, which needs no engine.
"""
