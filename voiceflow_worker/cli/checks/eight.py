"""Checks of the account at 8x8. They change nothing there and call nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import partial

from voiceflow_worker.cli.checks.context import CheckContext
from voiceflow_worker.cli.checks.diagnosis import CannotLookError, Diagnosis, failure, ok, warning
from voiceflow_worker.cli.remedies import with_remedies
from voiceflow_worker.errors import PhoneNumberError, RequestFailedError, VoiceUnavailableError
from voiceflow_worker.model.numbers.phone import normalise
from voiceflow_worker.model.text.duration import write_duration

DATE_GRAIN = timedelta(seconds=1)
"""The precision of a Date header: whole seconds, rounded down (RFC 9110 §5.6.7)."""


async def credentials(context: CheckContext) -> Diagnosis:
    """Check that 8x8 accepts the API key for the sub-account."""
    try:
        await context.account.webhooks()
    except VoiceUnavailableError as error:
        return failure(error.message, remedy=with_remedies(error.remedy or "try again later", error.remedies))
    except RequestFailedError as error:
        return failure(error.message, remedy=with_remedies(error.remedy or "see the message", error.remedies))
    return ok(f"8x8 accepts the API key for {context.settings.sub_account}")


async def clock(context: CheckContext) -> Diagnosis:
    """Check that the clock of the store, or of this machine, agrees with the clock of 8x8."""
    account = context.account
    if account.is_out_of_reach:
        raise CannotLookError("credentials", "8x8 could not be asked for the time")
    now = context.opened.clock.now if context.opened is not None else partial(datetime.now, UTC)
    before = now()
    theirs = await account.voice.server_time()
    if theirs is None:
        return warning(
            "the answer of 8x8 had no time, so this clock was not checked",
            remedy="run this command again; check that the clock of this machine is set (NTP)",
        )
    return judged_clock(before, now(), theirs, allowed=context.settings.clock_skew)


def judged_clock(before: datetime, after: datetime, theirs: datetime, *, allowed: timedelta) -> Diagnosis:
    """The diagnosis of this clock, by one request to 8x8.

    `before` and `after` are the times of this clock around the request. `theirs` is the time in the answer.
    """
    # The duration of the request and the rounding of the header do not count as a difference.
    behind, ahead = theirs - after, before - (theirs + DATE_GRAIN)
    off = timedelta(seconds=round(max(behind, ahead, timedelta(0)).total_seconds()))
    if not off:
        return ok("this clock agrees with the clock of 8x8")
    off_by = f"this clock is {write_duration(off)} {'behind' if behind > ahead else 'ahead of'} the clock of 8x8"
    if off > allowed:
        most = write_duration(allowed)
        return failure(
            f"{off_by}, but VOICEFLOW_CLOCK_SKEW allows only {most}: calls expire too early, or may ring too late",
            remedy="set the clock (NTP: timedatectl set-ntp true), then run `voiceflow resume` if a queue is held",
        )
    return ok(f"{off_by}, within VOICEFLOW_CLOCK_SKEW")


async def voice_profile(context: CheckContext) -> Diagnosis | None:
    """Check that the voice of the settings is a voice of the sub-account."""
    wanted = context.settings.voice_profile
    if wanted is None:
        return None
    codes = [profile.code for profile in await (await context.account.usable()).speech_profiles()]
    if wanted in codes:
        return ok(f"{wanted} is a voice of the sub-account")
    folded = {code.casefold(): code for code in codes}
    close = get_close_matches(wanted.casefold(), folded, n=1)
    meant = f"; did you mean {folded[close[0]]}?" if close else ""
    return failure(
        f"the sub-account has no voice {wanted}, so 8x8 would refuse calls with it (-1002){meant}",
        remedy="set VOICEFLOW_VOICE_PROFILE to a voice that `voiceflow account profiles` lists",
    )


async def source(context: CheckContext) -> Diagnosis | None:
    """Check that the calling number (VOICEFLOW_SOURCE) belongs to the account, and is active."""
    wanted = context.settings.source
    if wanted is None:
        return None
    remedy = (
        "set VOICEFLOW_SOURCE to a number that `voiceflow account numbers` lists as Active, or ask 8x8 to allow this "
        "number"
    )
    try:
        number = normalise(wanted)
    except PhoneNumberError as error:
        return failure(str(error), remedy="write VOICEFLOW_SOURCE with its country code, such as +6531234567")
    voice = await context.account.usable()
    digits = number.removeprefix("+")
    # Only the list has the status and the health of a number.
    found = next((each for each in await voice.numbers() if each.msisdn.removeprefix("+") == digits), None)
    if found is None:
        found = await voice.number(number)
        if found is not None and found.status is None:
            return ok(f"{number} belongs to the account, but 8x8 does not list its state")
    if found is None:
        return warning(
            f"{number} is not a number of the account: 8x8 refuses calls from it (-1014), unless 8x8 has allowed it as "
            "a caller id",
            remedy=f"{remedy}; a test call (`voiceflow doctor --call NUMBER`) shows whether 8x8 allows it",
        )
    if found.is_unhealthy:
        return warning(
            f"{number} is unhealthy{f' ({found.health})' if found.health else ''}: it should not be used for new calls",
            remedy="choose another source until this number is healthy again",
        )
    if found.is_active:
        return ok(f"{number} belongs to the account, and is active")
    if found.is_expiring:
        return warning(f"{number} is expiring", remedy="renew it with 8x8, or choose another source")
    return failure(f"{number} is {found.status or 'in no known state'}: calls from it fail", remedy=remedy)
