"""The names that an app may give its jobs. Pure."""

from __future__ import annotations

from mpdispatch.errors import UsageError
from mpdispatch.model import COMMAND_JOB, RESERVED_PREFIX
from mpdispatch.policy.names import check_name, shown


def check_job_name(value: object) -> str:
    """`value` if an app's own job can have that name.

    >>> check_job_name("send_mail")
    'send_mail'

    Raises:
        UsageError: it cannot be a name, or is reserved for us.
    """
    name = check_name("job name", value)
    if name == COMMAND_JOB:
        raise UsageError(
            f"{name!r} is reserved for commands, which are enqueued by `mpdispatch run -- CMD` only; in Python"
            " write a handler that calls subprocess.run"
        )
    if name.startswith(RESERVED_PREFIX):
        raise UsageError(f"job name must not begin with {RESERVED_PREFIX!r}, as {shown(name)} does")
    return name
