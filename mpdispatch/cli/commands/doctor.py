"""`doctor`: checks everything that can be wrong, and names remedies."""

from __future__ import annotations

from mpdispatch.cli.clients import open_client
from mpdispatch.cli.locate import find_config
from mpdispatch.cli.output import print_json, print_line
from mpdispatch.cli.program import Options, command
from mpdispatch.clock import SystemClock
from mpdispatch.engine.doctor import checkup
from mpdispatch.model.json import to_json


@command("mpdispatch doctor\nmpdispatch doctor --json")
def doctor(options: Options) -> int:
    """Examine the store, this machine and the supervisors of the store; name a remedy for what is wrong.

    Reads all of the store, which may take a while; changes nothing. Exits 1 if something needs doing.
    """
    store = open_client(options).store
    findings = checkup(store, find_config(options), now=SystemClock().now())
    is_well = not any(finding.needs_doing for finding in findings)
    if options.json:
        print_json({"ok": is_well, "store": store.display, "findings": [*map(to_json, findings)]})
    else:
        for each in findings:
            print_line(f"{each.level:<8} {each.check}: {each.message}")
            if each.remedy is not None:
                print_line(f"{'':<8} ▸ {each.remedy}")
    return 0 if is_well else 1
