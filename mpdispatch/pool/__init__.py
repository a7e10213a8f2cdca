"""Worker processes and their channels. Runs in the supervisor, but for `worker`, which runs in the worker.

```
 supervisor process                                              worker process
 ------------------                                              --------------
                     ┌──────── SOCK_SEQPACKET pair ────────┐
 Worker.channel  ◀───┤ jobs by the frame; a bell back      ├───▶ worker.main loop
                     └───────────────▲─────────────────────┘        │ mark (job, starts)
 Worker.spare  = a duplicate of the  │                              ▼ in its ring
   worker's end: no EOF while we ────┘                        ┌───────────┐
   still read what it said                                    │ start     │◀── read by a rescuer
 Worker.tokens ◀─ eventfd: a token for each job not begun ──▶ │ marks     │    after a crash
 Worker.death_fd ── pipe: closes when we die ⇒ SIGKILL        │ (mmap)    │──▶ read by us: what
 Worker.pidfd    ◀─ readable when the worker has ended        └───────────┘    runs, since when
 control word in the ring + SIGUSR1 ⇒ JobTimeout / JobCancelled in the handler
```

Jobs wait in the kernel's socket buffer and in the worker; its tokens say which of them are not begun (see `receiver`).
Because we hold a duplicate of the worker's end, a dead worker gives no EOF: death is known by its pidfd, then its exit
status is read, then what it still said, then the jobs it never began are recalled, then the outcome is decided.
What it says lies in its ring as well (see `reply_ring`), and outlives the supervisor: `recovered` reads it after a crash.
"""
