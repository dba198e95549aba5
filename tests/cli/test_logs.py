from __future__ import annotations

import json
import logging

import pytest
import structlog

from voiceflow_worker.cli.opening import log_to_stderr


def test_json_is_one_object_a_line_for_our_logs_and_those_of_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(form="json", level="info")
    structlog.get_logger("voiceflow.worker").info("ours", calls=3)
    logging.getLogger("somebody").warning("theirs: %d", 4)
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["level"], ours["calls"]) == ("ours", "info", 3)
    assert (theirs["event"], theirs["level"]) == ("theirs: 4", "warning")
    assert {"timestamp"} <= set(ours) & set(theirs)


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_reported_without_the_values_it_met(capsys: pytest.CaptureFixture[str], form: str) -> None:
    def fail(pressed: str) -> None:
        raise ZeroDivisionError(f"{len(pressed)} keys")

    log_to_stderr(form=form, level="info")
    try:
        fail("47" + "11")
    except ZeroDivisionError:
        structlog.get_logger().exception("a bug")
    err = capsys.readouterr().err
    assert "ZeroDivisionError: 4 keys" in err
    assert "4711" not in err, "local variables hold numbers, data and keys pressed"


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_is_below_the_level_is_left_out_and_stdout_is_free(capsys: pytest.CaptureFixture[str], form: str) -> None:
    log_to_stderr(form=form, level="error")
    structlog.get_logger().warning("ours")
    logging.getLogger("somebody").warning("theirs")
    structlog.get_logger().error("an error of ours")
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()), "an error of ours" in err) == ("", 1, True)


@pytest.mark.parametrize("form", ["console", "json"])
def test_every_line_names_its_process_where_there_are_several(capsys: pytest.CaptureFixture[str], form: str) -> None:
    log_to_stderr(form=form, level="info", process=4711)
    structlog.get_logger("voiceflow.worker").info("ours")
    logging.getLogger("somebody").warning("theirs")
    assert ["4711" in line for line in capsys.readouterr().err.splitlines()] == [True, True]
