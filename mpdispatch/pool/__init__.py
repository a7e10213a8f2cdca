"""Worker processes and their channels. Runs in the supervisor, but for `worker`, which runs in the worker.

```
 supervisor process                                              worker process
 ------------------                                              --------------
                     ┌──────── SOCK_SEQPACKET pair ────────┐
 Worker.channel  ◀───┤ one frame per job, per outcome      ├───▶ worker.main loop
                     └───────────────▲─────────────────────┘        │ mark (job, starts)
 Worker.spare  = a duplicate of the  │                              ▼ in its ring
   worker's end: what the worker has │                        ┌───────────┐
   not read yet can be taken back ───┘                        │ start     │◀── read by a rescuer
                                                              │ marks     │    after a crash
 Worker.death_fd ── pipe: closes when we die ⇒ SIGKILL        │ (mmap)    │──▶ read by us: what
 Worker.pidfd    ◀─ readable when the worker has ended        └───────────┘    runs, since when
 control word in the ring + SIGUSR1 ⇒ JobTimeout / JobCancelled in the handler
```

The kernel's socket buffer *is* the prefetch queue. Because we hold a duplicate of the worker's end, a
dead worker gives no EOF: death is known by its pidfd, then the channel is drained, then the frames it never
read are recalled, then its exit status is read, then the outcome is decided.
"""
