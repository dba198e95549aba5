#!/bin/sh
# croniter 7.0.0, APScheduler 3.11.3, cronsim 2.8: a daily job runs twice on the day when summer time ends.
# Guess: `30 2 * * *` is once a day, also in Berlin on 2027-10-31, when 02:30 comes twice.
# What happens: croniter and APScheduler have both, an hour apart; cronsim has the first. A job that calls people
# calls them twice on this day.
# Seen: runs on 2027-10-31: croniter 2, APScheduler 2, cronsim 1.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check croniter==7.0.0 apscheduler==3.11.3 cronsim==2.8 tzdata==2026.6
cd "$dir"
bin/python - <<'END'
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

cron, berlin = "30 2 * * *", ZoneInfo("Europe/Berlin")
before = datetime(2027, 10, 30, 12, tzinfo=berlin)
steps, simulated, trigger = croniter(cron, before), CronSim(cron, before), CronTrigger.from_crontab(cron, berlin)
fired = [trigger.get_next_fire_time(None, before)]
while len(fired) < 3:
    fired.append(trigger.get_next_fire_time(fired[-1], fired[-1]))
runs = {
    "croniter": [steps.get_next(datetime) for _ in range(3)],
    "APScheduler": fired,
    "cronsim": [next(simulated) for _ in range(3)],
}
seen = {name: len({at.timestamp() for at in times if at.date() == date(2027, 10, 31)}) for name, times in runs.items()}
expected = {"croniter": 2, "APScheduler": 2, "cronsim": 1}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
