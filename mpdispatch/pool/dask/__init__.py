"""Runs handlers on an existing cluster of dask.distributed. Needs the extra `dask`; nothing else imports this room.

Claims, outcomes, timeouts and cancels are the supervisor's, as ever. Only what a worker process does happens in a worker
process of the cluster, in one of its threads, one job at a time in each.

```
 supervisor's loop          thread of `cluster`           dask scheduler        dask worker: `remote`
 -----------------          -------------------           --------------        ---------------------
 DaskPool ──commands──▶ asyncio loop with a Client ──task──▶ (pinned) ──────▶ import the app · run one job
    ▲                            │    ◀──────────── result of the task: bytes ────────┘      │
    └── notices, and a pipe ─────┘    ◀──────────── topic: begun, progress, output ──────────┘
        that becomes readable         ◀──────────── topic "all": a worker has come, or gone
```

What dask pickles are functions of `remote`, by their names, and bytes, texts and numbers. So mpdispatch is installed where
the scheduler and the workers run, in one version, and the app where the workers run.

A task is pinned to the very process that has imported the app: dask would run it again elsewhere after a death, and
`remote` refuses that. A start is marked in the start journal when its task is sent, because the cluster may begin it at
any time from then on.
"""
