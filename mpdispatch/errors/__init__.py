"""Every error a user of mpdispatch can meet, in one tree under `DispatchError`. Ground: imports only the clock.

    base ◀── jobs      a job, its handler, the app
         ◀── store     a store
         ◀── pool      a cluster that runs jobs
         ◀── crons     a cron entry
         ◀── batches   a batch, a job that waits for others
    steering           Retry, Snooze, Cancel, which a handler raises; JobTimeout, JobCancelled, raised inside one

An error carries its facts as attributes and builds its text from them: what happened, to which thing, and what to do.
`exit_code` is what the command line exits with (sysexits.h where it has one).
"""

from typing import TYPE_CHECKING

from mpdispatch.errors.base import *
from mpdispatch.errors.batches import *
from mpdispatch.errors.crons import *
from mpdispatch.errors.jobs import *
from mpdispatch.errors.pool import *
from mpdispatch.errors.steering import *
from mpdispatch.errors.store import *

if not TYPE_CHECKING:  # type checkers understand no computed list
    __all__ = [name for name, each in globals().items() if getattr(each, "__module__", "").startswith(__name__)]

    # The type of an error is kept with its job and shown to people: by the name it is imported from.
    for _name in __all__:
        globals()[_name].__module__ = __name__
