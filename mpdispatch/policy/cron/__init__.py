"""Cron: when entries have slots, and what is to happen to them. Pure: no clock, no I/O but reading zones (`zoneinfo`).

    text ──(expression.parse)──▶ Schedule ──┐
    CronEntry + now + since when somebody looks ──▶ plan ──(due, overlap, late)──▶ CronDecision | None

`schedule` has the kinds of schedules and `zones` the readings of a clock; `due` says which slots are due and which
missed ones catch up, `overlap` what happens to them while jobs are open, `late` who is overdue, `preview` what will
happen and why something did not. All times are wall times in µs.
Not here: entries and their slots on disk (`store`), the duty that asks (`supervisor`), crontabs (`policy.crontab`).
"""
