"""The YAML configuration file: which one counts, what it may say, and what is in force after all sources.

find_section ──▶ Section ──▶ with arguments and environment ──▶ Effective, or every fault at once

Under the key `extensions.dispatch`, else `dispatch`, a file has the fields of Config and the keys of
`OTHER_SETTINGS`. One file serves the command line and an app's extension.
Not here: the settings and their defaults (`config`).
"""

from mpdispatch.configfile.document import NAMES, Section, find_section
from mpdispatch.configfile.effective import (
    DEFAULTS,
    OTHER_SETTINGS,
    Effective,
    FileSettings,
    effective,
    file_settings,
)

__all__ = [
    "DEFAULTS",
    "NAMES",
    "OTHER_SETTINGS",
    "Effective",
    "FileSettings",
    "Section",
    "effective",
    "file_settings",
    "find_section",
]
