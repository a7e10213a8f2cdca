"""Pure decisions: values in, values out; no I/O, no clock, no randomness of their own.

    claimed job + outcome ──▶ decide ──(backoff)──▶ Transition
    queues + facts of a claim ──▶ Admission.plan ──(rate)──▶ ClaimPlan
    a peer's registration ──▶ lease.judge_peer ──▶ PeerVerdict

Import from the modules: `config` uses `names` and `durations` and must not pay for msgspec.
"""
