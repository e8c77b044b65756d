"""Models become artifacts: one pure exporter a format, quantizers from file to file, subprocesses that hold both.

Importing this package imports no converter. `job.Exports` is what the rest of the host uses.
"""
