"""CSV files as people make them: encodings, delimiters, headers, quotes, ragged rows, wrongly decoded characters."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, peak, read, read_all, refused, text_of, told
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.times import DateOrder

LONG = "x" * 131_073
HEADER, ANA, BEN = "destination,name\n", "+6587654321,Ana\n", "+6587654322,Ben\n"

# -- the whole file ----------------------------------------------------------------------------------------------------

UNUSABLE = {
    "destination,price €\n+6587654321,Ana\n".encode("cp1252"): "is not UTF-8: line 1 has the byte 0x80 at character",
    b"": "is empty; it needs a header line with a column named destination",
    b"\xef\xbb\xbf": "is empty",
    b"x" * 1_000_001: "is longer than 1000000 characters; correct or remove that line",
}  # fmt: skip


def test_a_file_that_cannot_be_used_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for content, sentence in UNUSABLE.items():
        assert sentence in refused(file_of(tmp_path, content)), content[:20]
    assert "title" not in refused(file_of(tmp_path, "whom\n+6587654321\n")), "a column alone"
    with pytest.raises(CampaignFileError, match="line 2 looks like the header: name the row of the header"):
        read_number_file(file_of(tmp_path, "Do not call\nName,Phone\nAna,+6587654321\n"))


def test_delimiters_line_ends_and_byte_order_marks_make_no_difference(tmp_path: Path) -> None:
    for end, delimiter, encoding in product(["\n", "\r\n", "\r"], [",", ";", "\t", "|"], ["utf-8", "utf-8-sig"]):
        lines = [["destination", "name"], ["+6587654321", "Zoë"], ["+6587654322", '"a,b;c"'], []]
        content = end.join(delimiter.join(line) for line in lines).encode(encoding)
        assert list(map(text_of, calls_of(read(file_of(tmp_path, content))))) == ["Hello Zoë.", "Hello a,b;c."]


AS_WINDOWS = (
    "Jürgen Groß", "ANNA MÜLLER", "STRAßE", "René", "Élodie Lefèvre", "Anaïs", "François", "José Núñez", "João Simões",
    "Søren Åkesson", "Niccolò", "Žiga", "Lætitia", "Zoë", "O'Réilly", "Gülçin Öztürk",
)  # fmt: skip
"""Names that are read from the bytes of Windows-1252."""
IN_OTHERS = {
    "cp1252": ("12 €", "Jürgen \N{EN DASH} Groß", "Café à Paris", "Nº 5", "Þórður Guðmundsson", "Zo\xa0é"),
    "cp1250": ("Jiří Dvořák", "Černý", "Kovačić", "Wałęsa", "Leśniak", "Ionuţ", "Němec", "Erdős", "Košč",
               "Kamiński", "Węgrzyn", "Kępa", "Ondřej", "Bedřich", "Năstase"),
    "cp1251": ("Юлия",), "cp1253": ("Ψάλτης",), "cp1254": ("Şahin", "Erdoğan"), "cp1257": ("Kalniņš",),
    "mac_roman": ("Jürgen", "Björn Schröder", "René", "Saúl", "Groß"), "cp850": ("Jürgen", "Groß", "Übel", "Ärzte"),
    "iso8859_15": ("Cœur",), "shift_jis": ("アイウ",), "gbk": ("张伟",),
}  # fmt: skip
"""Names whose bytes are no letters as Windows-1252, or as likely another name."""


def test_what_is_not_utf_8_is_read_as_windows_1252_if_it_certainly_is(tmp_path: Path) -> None:
    header, number = "destination,prénom,name\n", "+6587654321,x,"
    for name in AS_WINDOWS:
        found = read_all(file_of(tmp_path, f"{header}{number}Ana\n{number}{name}\n".encode("cp1252")))
        (told,) = [each for each in found.warnings if "Windows-1252" in each]
        word = next(each for each in re.split("[' ]", name) if not each.isascii())
        assert (found.heard, word in told) == (["Hello Ana.", f"Hello {name}."], True), name
    for encoding, names in IN_OTHERS.items():
        for name in names:
            content = f"{HEADER}{number.replace('x,', '')}{name}\n".encode(encoding)
            assert "is not UTF-8: line 2 has the byte" in refused(file_of(tmp_path, content)), (encoding, name)
    assert "it may have 'Bjšrn', as Windows-1252, or 'Björn', as Mac OS Roman; save it again as CSV UTF-8" in refused(
        file_of(tmp_path, f"{HEADER}+6587654321,Björn\n".encode("mac_roman"))
    )
    mixed = f"{HEADER}+6587654321,Zoë\n".encode() + "+6587654322,Zoë\n".encode("cp1252")
    assert "is not UTF-8: line 3" in refused(file_of(tmp_path, mixed)), "UTF-8 and Windows-1252"


# -- rows and cells ----------------------------------------------------------------------------------------------------


def test_a_line_that_no_table_has_is_bad_alone(tmp_path: Path) -> None:
    thousands = "".join(f"+65{80000000 + n},Ben\n" for n in range(2000))
    for row, rest, sentence in (
        ("+6587654321,A\0na", BEN, "the line has a NUL character"),
        (f"+6587654321,{LONG}", BEN, "the line has a cell of more than 131072"),
        (f'+6587654321,"{LONG}"', BEN, "the line has a cell of more than 131072"),
        ('+6587654321,"Ana', thousands, "is opened and not closed"),
    ):
        reading = read_all(file_of(tmp_path, f"{HEADER}{row}\n{rest}"))
        assert reading.heard == ["Hello Ben."] * rest.count("\n")
        assert [(line, sentence in said) for line, _, _, said in told(reading.rows)] == [(2, True)], row[:20]


def test_a_cell_has_the_same_characters_with_quotes_and_without(tmp_path: Path) -> None:
    for mark, quote in product(["", "\\", "'", "\x85", "\u2028", "\x0b", "\xa0", " x ", "%s", "x" * 3000], ["", '"']):
        rows = read(file_of(tmp_path, f"{HEADER}+6587654321,{quote}A{mark}na{quote}"))
        assert rows[0].raw.cells == ("+6587654321", f"A{mark}na")


def test_a_finding_names_a_column_as_the_file_does_and_each_cell_has_one(tmp_path: Path) -> None:
    said = FlowTemplate.speaking("Come on {{visit|date}}.")
    options = replace(OPTIONS, template=said, columns={"destination": "mobile no"}, date_order=DateOrder.DMY)
    table = "Not Before;Mobile No;Visit\n;;24.12.2026\n32.1.2027 9:00;+65 8123;31.2.2027\n"
    lines = '{"Visit": "24.12.2026"}\n{"not_before": "32.1.2027", "Mobile No": "+65 8123", "Visit": "31.2.2027"}\n'
    for name, content, missing in (("a.csv", table, "Mobile No"), ("a.jsonl", lines, "mobile no")):
        rows = read(file_of(tmp_path, content, name), options)
        columns = [[found.column for found in row.findings] for row in rows]
        assert columns == [[missing], ["not_before", "Visit", "Mobile No"]], name


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """50,000 rows keep only their keys in mind."""

    def of(count: int) -> int:
        path = file_of(tmp_path, HEADER + "".join(f"+65{80000000 + n},Ana\n" for n in range(count)))
        return peak(lambda: deque(open_campaign(path, OPTIONS, now=NOW), maxlen=0))

    of(2200)  # what is loaded and cached once
    small, large = of(200), of(2200)
    assert (large - small) / 2000 < 600
