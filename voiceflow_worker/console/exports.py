"""The downloads of `/ui/export/FORM?queue=&batch=`: a line for each row of a batch."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import FileResponse

from voiceflow_worker.campaigns.report_files import ReportFiles, write_report_files
from voiceflow_worker.campaigns.row_list import RowList
from voiceflow_worker.console.page import LONGEST_NAME, Answer, PageRequest, no_such_batch, problem, sentence
from voiceflow_worker.console.sign_in import Person
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME

SECTION = "export"
_FORMS = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}

_log = structlog.get_logger("voiceflow.console")


class ReportExports:
    """The export of reports. One file is written at a time (`files`)."""

    def __init__(self, store: Store, files: anyio.Lock) -> None:
        self._store = store
        self._files = files

    async def answer(self, request: Request, asked: PageRequest, person: Person) -> Answer:
        """Return the report as a file, or a page that says why there is no report. Raises StoreError."""
        kind = asked.name
        if kind not in _FORMS:
            return problem(404, "No such report", "A report can be exported as xlsx or csv.")
        # A page of another site must not make this receiver write reports. Browsers without this header are admitted.
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return problem(403, "Nothing was exported", "Open the page of the batch, and export its report from there.")
        queue, batch = asked.query.get("queue") or DEFAULT_QUEUE, asked.query.get("batch", "")
        is_name = QUEUE_NAME.fullmatch(queue) and 0 < len(batch) <= LONGEST_NAME
        if not is_name or not (
            await BatchNames(self._store, queue).has_calls(batch) or await RowList(self._store, queue, batch).files()
        ):
            return await no_such_batch(self._store, queue, batch)
        folder = request.state.held.enter_context(TemporaryDirectory())  # until the file is sent
        files: dict[str, Any] = {kind: Path(folder) / f"report.{kind}", "rows": True, "zone": asked.time_zone}
        try:
            async with self._files:
                await write_report_files(ReportFiles(**files), self._store, queue, batch)
        except InvalidInputError as error:
            return problem(409, "This cannot be exported", sentence(error))
        except OSError as error:
            _log.warning("a report could not be written", error=str(error))
            return problem(503, "The report could not be written", "The log of the receiver has the reason.")
        _log.info("somebody exported a report", name=person.name, batch=batch, form=kind)
        shown = re.sub(r"[\x00-\x1f\x7f/\\\"]+", "-", f"{batch}.{kind}")
        return FileResponse(files[kind], media_type=_FORMS[kind], filename=shown)
