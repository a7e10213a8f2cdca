"""Pure decisions: values in, values out; no I/O, no clock, no randomness of their own.

    claimed job + outcome ──▶ decide ──(backoff)──▶ Transition
    ClaimRequest + facts ──▶ admission.plan ──(rate)──▶ ClaimPlan
    a peer's registration ──▶ lease.judge_peer ──▶ PeerVerdict
    CronEntry + now ──▶ cron.plan ──(cron.schedule)──▶ CronDecision

Also how settings, names, durations, schedules and crontabs are read. Import from the modules: `config` uses `names` and
`durations`, and importing it must not load msgspec.
Not here: the facts themselves, which `store` and `host` read, and acting on a decision (`supervisor`).
"""
