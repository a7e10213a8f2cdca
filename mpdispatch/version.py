"""The version, in the one place it is written. Ground: imports nothing.

A constant, and not read from the installed metadata: importlib.metadata brings the email package, 2.7 MiB a process.
"""

__version__ = "0.1.0"
