"""What an app offers: its handlers by name, their signatures, and their arguments as JSON and back.

Used where jobs are enqueued and in the worker. Pure but for the registry, which only keeps what it is given.
Not here: how a handler is run (`execution`), and the faces that register and enqueue (`engine`).
"""
