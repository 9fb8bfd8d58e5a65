"""What is said of a job that is asked to stop and waits for responses in flight, and of stopping it earlier."""

import time

from storage.job_records import Job, Stopping


def name(stopping: Stopping) -> str:
    """`‖ pausing` or `■ cancelling`."""
    return "‖ pausing" if stopping.kind == "pause" else "■ cancelling"


def in_flight(job: Job) -> int:
    """Requests of the job that endpoints had not answered at its last report."""
    return sum(int(row.get("in_flight", 0)) for row in job.progress.get("rows", {}).values())


def responses(count: int) -> str:
    """`5 responses in flight`."""
    return f"{count:,} response{'' if count == 1 else 's'} in flight"


def line(stopping: Stopping, job: Job) -> str:
    """`‖ pausing: 5 responses in flight`; where there are none, since when, in local time."""
    doing = name(stopping)
    if (count := in_flight(job)) and not stopping.at_once:
        return f"{doing}: {responses(count)}"
    return f"{doing} since {time.strftime('%H:%M:%S', time.localtime(stopping.since))}"


def can_hurry(stopping: Stopping, job: Job) -> bool:
    """Whether it waits for responses, so that asking again stops it earlier."""
    return not stopping.at_once and in_flight(job) > 0


def hurry(job: Job) -> tuple[str, str]:
    """(question, what is lost) of stopping a job that waits for responses."""
    return (
        f"Stop job {job.id} ({job.name}) at once?",
        f"It waits for {responses(in_flight(job))}. They are given up, and their endpoints may bill them; what has "
        "come is kept.",
    )
