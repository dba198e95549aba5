#!/bin/sh
# croniter 7.0.0, APScheduler 3.11.3, cronsim 2.8: one cron expression means other days in each library.
# Guess: five fields mean the same everywhere, and Monday is 1.
# What happens: for APScheduler's from_crontab, 1 is Tuesday. A step that begins with 1 reaches Sunday in cronsim
# alone. Of a day of the month with a step and a day of the week, both must hold in cronsim and APScheduler, one in
# croniter.
# Seen: the first days from 2027-01-01 on, a Friday, in croniter, cronsim and APScheduler: `0 9 * * 1`: 4; 4; 5. `0 9
# * * 1/2`: 1, 4, 6; 1, 3, 4; 2, 5, 7. `0 9 */2 * mon`: 1, 3; 11, 25; 11, 25.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check croniter==7.0.0 apscheduler==3.11.3 cronsim==2.8
cd "$dir"
bin/python - <<'END'
from datetime import datetime, timedelta, timezone

from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

START = datetime(2026, 12, 31, 23, tzinfo=timezone.utc)


def days(cron, count):
    steps, simulated = croniter(cron, START), CronSim(cron, START)
    trigger = CronTrigger.from_crontab(cron, timezone.utc)
    fired = [trigger.get_next_fire_time(None, START)]
    while len(fired) < count:
        fired.append(trigger.get_next_fire_time(fired[-1], fired[-1] + timedelta(seconds=1)))
    runs = [steps.get_next(datetime) for _ in range(count)], [next(simulated) for _ in range(count)], fired
    return [[at.day for at in times] for times in runs]  # all in January


seen = [days("0 9 * * 1", 1), days("0 9 * * 1/2", 3), days("0 9 */2 * mon", 2)]
expected = [[[4], [4], [5]], [[1, 4, 6], [1, 3, 4], [2, 5, 7]], [[1, 3], [11, 25], [11, 25]]]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
