"""Several hosts that share one queue: supervisors in namespaces of their own, over TCP to a real server.

`network.py` makes hosts: each has its own network, process ids, host name, machine id, boot id, clock since boot and
/var/tmp, and a cable that can be pulled. `yard.py` has a server and hosts around one folder with an app, `tasks.py` is
that app, `judge.py` reads what its handlers noted, and `lossy.py` is a proxy that hangs up instead of passing a reply on.

A test needs root and the programs of iproute2 and util-linux; else it is skipped, with the reason.
"""
