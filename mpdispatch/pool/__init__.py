"""The worker processes of one supervisor, and what travels to and from them.

`protocol` has what the supervisor asks of any pool; `pool.ProcessPool`, drawn below, is that of this machine, and `dask`
has that of a cluster.
Runs in the supervisor, but for `worker`, `zygote` and `hook_process`, the mains of processes of their own, and `started`,
which they share.
Not here: which job goes to which worker (`supervisor.assign`), how a job is run (`execution`), and the shared memory
that outlives a worker (`host`).

```
 supervisor process                                              worker process
 ------------------                                              --------------
                     ┌──────── SOCK_SEQPACKET pair ────────┐
 its end         ◀───┤ frames of jobs; a wake-up back      ├───▶ main loop of `worker`
                     └───────────────▲─────────────────────┘        │ start mark (job, starts)
 a duplicate of the worker's end ────┘                              ▼ in its record
                                                             ┌───────────┐
 eventfd ◀─ one permit for each job that has not begun ────▶ │ start     │◀── read by a rescuer
 pipe, its end closes when we die ⇒ SIGKILL of the worker    │ journal   │    after a crash
 pidfd, readable when the worker has ended                   │ (mmap)    │──▶ read by us: what
 control word in its record + SIGUSR1 ⇒ JobTimeout or        └───────────┘    runs, since when
   JobCancelled in the handler
```

Jobs wait in the kernel's socket buffer and in the worker; the permits tell which of them have not begun (`job_channel`).
Because we hold a duplicate of the worker's end, its death gives no EOF. The pidfd tells of it; then we read the exit
status and the last replies, recall the jobs that never began, and decide the outcome.
Replies lie in shared memory too (`host.reply_ring`) and outlive the supervisor: `recovered` reads them after a crash.
"""
