"""A parameter sweep into a table: how many are ill at once in an epidemic, by contagion and recovery."""

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mpdispatch import Engine

engine = Engine.open("sweep.db", concurrency="auto")
CONTAGION, RECOVERY = (0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.2)


@engine.job
def peak(contagion: float, recovery: float, days: int = 365) -> float:
    """The largest share of people that is ill at the same time (the SIR model, 100 steps a day)."""
    healthy, ill, most = 0.999, 0.001, 0.0
    for _ in range(days * 100):
        infected, cured = contagion * healthy * ill / 100, recovery * ill / 100
        healthy, ill = healthy - infected, ill + infected - cured
        most = max(most, ill)
    return most


if __name__ == "__main__":
    batch = engine.enqueue_many("peak", ({"contagion": c, "recovery": r} for c in CONTAGION for r in RECOVERY))
    found = {}
    with engine.dispatcher:
        for job in track(engine.as_completed(batch), "sweep", batch.total):
            found[job.payload["contagion"], job.payload["recovery"]] = job.result
    table = Table("contagion", *(f"recovery {r}" for r in RECOVERY))
    for c in CONTAGION:
        table.add_row(str(c), *(f"{found[c, r]:.1%}" for r in RECOVERY))
    Console().print(table)
