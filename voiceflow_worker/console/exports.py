"""The downloads of `/ui/export/FORM?queue=&batch=`: a line for each row of a batch."""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope

from voiceflow_worker.asgi import limits
from voiceflow_worker.campaigns.report_files import ReportFiles, write_report_files
from voiceflow_worker.campaigns.row_list import RowList
from voiceflow_worker.console.routes.page import (
    LONGEST_NAME,
    Answer,
    PageRequest,
    no_such_batch,
    problem,
    sentence,
)
from voiceflow_worker.console.sessions import PageSession, query_form
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME
from voiceflow_worker.service.other_process import OtherProcess

SECTION = "export"
_FORMS = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}

_log = structlog.get_logger("voiceflow.console")


class ReportExports:
    """The export of reports, each written to a temporary file by another `process`."""

    def __init__(self, store: Store, process: OtherProcess) -> None:
        self._store = store
        self._process = process

    async def answer(
        self, scope: Scope, receive: Receive, asked: PageRequest, session: PageSession, *, held: ExitStack
    ) -> Answer:
        """The report as a file, or a page that says why there is no report. Raises StoreError.

        `held` deletes the file after the request, even if the file was not sent.
        """
        kind, form = asked.name, query_form(scope)
        if kind not in _FORMS:
            return problem(404, "No such report", "A report can be exported as xlsx or csv.")
        # A page of another site must not make this receiver write reports. Browsers without this header are admitted.
        if Headers(scope=scope).get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return problem(403, "Nothing was exported", "Open the page of the batch, and export its report from there.")
        queue, batch = form.exactly("queue") or DEFAULT_QUEUE, as_stored(form.exactly("batch"))
        is_name = QUEUE_NAME.fullmatch(queue) and 0 < len(batch) <= LONGEST_NAME
        if not is_name or not (
            await BatchNames(self._store, queue).has_calls(batch) or await RowList(self._store, queue, batch).files()
        ):
            return await no_such_batch(self._store, queue, batch)
        path = Path(held.enter_context(TemporaryDirectory())) / f"report.{kind}"
        files: dict[str, Any] = {kind: path, "rows": True, "zone": asked.time_zone}
        write = partial(self._process.run, _write, ReportFiles(**files), queue, batch)
        try:
            is_written = await limits.while_connected(receive, write)
        except InvalidInputError as error:
            return problem(409, "This cannot be exported", sentence(error))
        except OSError as error:
            _log.warning("a report could not be written", error=str(error))
            return problem(503, "The report could not be written", "The log of the receiver has the reason.")
        if is_written is None:
            return Response(status_code=503)  # the browser has disconnected
        _log.info("somebody exported a report", name=session.name, batch=batch, form=kind)
        shown = re.sub(r"[\x00-\x1f\x7f/\\\"]+", "-", f"{batch}.{kind}")
        return FileResponse(path, media_type=_FORMS[kind], filename=shown)


async def _write(store: Store, files: ReportFiles, queue: str, batch: str) -> bool:
    await write_report_files(files, store, queue, batch)
    return True
