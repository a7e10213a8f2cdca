"""What happened to jobs, told to the hooks of an app.

The loop and an enqueue leave notices, small values; events are made of them later, on the thread that calls the hooks.
Not here: the public events and the base class of extensions (`mpdispatch.hooks`), and what the supervisor sends to a
process for hooks (`supervisor.event_publisher`, `pool.hook_process`).
"""
