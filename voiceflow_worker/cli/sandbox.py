"""`voiceflow sandbox`: run a local stand-in for 8x8."""

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
    """Run a stand-in for 8x8. It validates and answers like the service, and calls nobody. For development only.

    GET /_sandbox/calls lists the calls; faults and outcomes can be set under /_sandbox.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        webhook: The URL for events, until webhooks are registered. Events carry VOICEFLOW_WEBHOOK_SECRET if it is set.
        seed: The seed of the random outcomes of calls.
        api_key: Accept only this API key. [any key]
        speed: The speed of calls, as a multiple of real time: with 60, a minute takes a second.
        voices: Accept only these voice profiles, separated by commas; refuse others with -1002. [any voice]
        sources: Accept only these numbers as sources, separated by commas; refuse others with -1014. [any number]

    Examples:
        voiceflow sandbox --webhook http://127.0.0.1:8080/webhooks/8x8 --speed 20
        VOICEFLOW_BASE_URL=http://127.0.0.1:8088 VOICEFLOW_API_KEY=any VOICEFLOW_SUB_ACCOUNT=demo voiceflow worker
    """
    import anyio

    from voiceflow_worker.sandbox import Sandbox
    from voiceflow_worker.setting_kinds import text_of

    numbers = None if sources is None else _listed("--sources", sources)
    for number in numbers or ():
        if not phone.is_e164(number):
            raise InvalidInputError(f"--sources {number}: give numbers with their country code, such as +6531234567")
    settings = settings_from()
    stand_in = Sandbox(
        seed=seed,
        api_key=api_key,
        numbers=numbers,
        voices=None if voices is None else _listed("--voices", voices),
        webhook=webhook,
        webhook_secret=text_of(settings.webhook_secret),
        speed=speed,
    )
    stopped = anyio.Event()
    async with signals_to(lambda _: stopped.set()), stand_in.running(host=host, port=port) as url:
        Output().note(f"voiceflow sandbox is ready on {url}; its calls are listed at {url}/_sandbox/calls")
        await stopped.wait()


def _listed(option: str, given: str) -> list[str]:
    """The values of an option that has several values, separated by commas."""
    listed = [name.strip() for name in given.split(",") if name.strip()]
    if not listed:
        raise InvalidInputError(f"{option} is empty: give at least one value, or leave the option out to accept any")
    return listed
