"""The Redis store: jobs on a Redis server (7 or newer) or a Valkey server. `RedisStore` is its face for clients.

Every transition is one call of one Lua function: `lua/*.lua` are its parts, `library.py` puts them together and `link.py`
calls it. The server runs one call at a time, so each is a transaction; and a call keeps all that it changes in a unit of
work (`lua/work.lua`) and writes it at its end, so one that is refused has changed nothing. Times are those of the server.

Programs in other languages enqueue with one call, see lua/foreign.lua:

    FCALL mpdispatch_enqueue 1 {mpdispatch} render '{"path":"a.pdf"}' queue bulk priority 5

Keys
====

All begin with `{prefix}:`, and the braces keep them on one node of a cluster. Ids are whole numbers.

Records, each a MessagePack map without fields that have no value; people read them with `records.py`:

    job:<id>               a job (records.JobRecord). A payload or result of more than 1 KiB has a key of its own:
    payload:<id>, result:<id>
    attempts:<id>          list of JSON: its ended starts, but for one that the record itself tells (`whole`)
    outputs:<id>           hash `starts:stream` → JSON: what its starts wrote
    batch:<id>             a batch; `n` counts its members by state
    cron_records           hash: a cron entry by id

Places of jobs. A job is in one set of its state and queue, and in those of the first kind that its state has;
`lua/places.lua` is the only file that adds to them:

    jobs:<state>:<queue>   sorted by id. Lists page through these by keyset (the highest ids below the last one seen), and
                           their sizes are the counts. `replaced` stands for failed jobs that were enqueued again.
    due:<queue>            what a claim reads: score -priority, member (run_at, id) in bytes that order as they do
    later:<queue>          scheduled and retrying jobs by the time at which they are due
    parked:<length>:<queue>:<name>   as `due`; the hash refused:<queue> counts them by name and reason
    waiting                hash: number of jobs of a queue that wait for parents
    owned:<owner>          running jobs, score `starts`; asked:<owner>: those that were asked to end
    expiring               waiting jobs by the time at which they expire
    settled:<state>        ended jobs that may be pruned, the first to have ended first; failed ones once their dead letters
                           are closed
    letters, letters:open  dead letters by number, and those neither replayed nor purged; letters:counts: open ones by queue

Relations:

    keys, retried          hashes: the job of an idempotency key; the job made of an ended one
    dependents:<id>        set: the jobs of which this one is a parent
    members:<batch>        by id; active:<batch>: the running ones by their start
    batches, batch_keys    ids; hash: the batch of a key; sweeping: batches whose members are being cancelled
    crons, cron_of         hashes: entry by name; entry and slot of a job
    slots:<cron>, fired:<cron>, firing:<cron>, skips:<cron>   see lua/crons.lua

The whole:

    meta, ids              hashes: the version; the last id of each kind
    queues, buckets        hashes: the queues there are, '1' if paused; token buckets
    supervisors, owners    hash of registrations; set of the owners that may own jobs
    reply:<caller>         the last reply to this caller, for five minutes: a call that is repeated gives it again
    work, ends             channels: there may be work; jobs have ended

A waiting job with 26 bytes of arguments costs the server some 325 bytes, of which its record is a third; a member of a
batch 60 more; one that has ended in a batch some 490 in all (measured on Valkey 9.1).
"""

from mpdispatch.store.redis.store import RedisStore

__all__ = ["RedisStore"]
