"""The YAML configuration file: which one counts, what it may say, and what is in force after all sources.

find_section ──▶ Section ──▶ with arguments and environment ──▶ Effective, or every fault at once

Under the key `extensions.dispatch`, else `dispatch`, a file has the fields of Config and of OtherSettings; `crons` has the
form of cron entries.
One file serves the command line and an app's extension.
Not here: the settings and their defaults (`config`).
"""

from mpdispatch.configfile.effective import Effective, OtherSettings, effective

__all__ = ["Effective", "OtherSettings", "effective"]
