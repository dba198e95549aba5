"""`voiceflow sandbox`: a local stand-in for 8x8."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import PortOption, SpeedOption, WebAddressOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.stopping import signals_to
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers import phone


async def sandbox(
    *,
    host: str = "127.0.0.1",
    port: PortOption = 8088,
    webhook: WebAddressOption = None,
    seed: str = "0",
    api_key: Annotated[str | None, Parameter(show_default=False)] = None,
    speed: SpeedOption = 1.0,
    voices: Annotated[str | None, Parameter(show_default=False)] = None,
    sources: Annotated[str | None, Parameter(show_default=False)] = None,
) -> None:
    """Run the stand-in for 8x8: it validates and answers like the service, and calls nobody. For development only.

    GET /_sandbox/calls lists the calls; faults and outcomes can be set under /_sandbox.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 is any free one.
        webhook: Where to send events, until others are registered. They carry VOICEFLOW_WEBHOOK_SECRET if it is set.
        seed: Decides how calls end.
        api_key: Take only this key. Without it any key will do.
        speed: How much quicker than life calls go; with 60 a minute takes a second.
        voices: Take only these voice profiles (-1002 for others), with commas between. Without it any will do.
        sources: Take only these numbers as sources (-1014 for others), with commas between. Without it any will do.

    Examples:
        voiceflow sandbox --webhook http://127.0.0.1:8080/webhooks/8x8 --speed 20
        VOICEFLOW_BASE_URL=http://127.0.0.1:8088 VOICEFLOW_API_KEY=any VOICEFLOW_SUB_ACCOUNT=demo voiceflow worker
    """
    import anyio

    from voiceflow_worker.sandbox import Sandbox

    numbers = None if sources is None else _listed("--sources", sources)
    for number in numbers or ():
        if not phone.is_e164(number):
            raise InvalidInputError(f"--sources {number}: give phone numbers with their country code, as +6531234567")
    settings = settings_from()
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    stand_in = Sandbox(
        seed=seed,
        api_key=api_key,
        numbers=numbers,
        voices=None if voices is None else _listed("--voices", voices),
        webhook=webhook,
        webhook_secret=secret,
        speed=speed,
    )
    stopped = anyio.Event()
    async with signals_to(lambda _: stopped.set()), stand_in.running(host=host, port=port) as url:
        Output().note(f"voiceflow sandbox is ready on {url}; what rang is on {url}/_sandbox/calls")
        await stopped.wait()


def _listed(option: str, given: str) -> list[str]:
    """What an option lists, with commas between."""
    listed = [name.strip() for name in given.split(",") if name.strip()]
    if not listed:
        raise InvalidInputError(f"{option} is empty: name at least one, or leave the option out to take any")
    return listed
