"""Whom not to call: rows with a number on the suppression list, and what columns, cells and names say of it."""

# ruff: noqa: RUF001 - words in other scripts

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import process_time
from typing import Any

import pytest

import voiceflow_worker
from tests.campaigns.conftest import StillClock
from tests.campaigns.forms import written
from tests.campaigns.reading import NOW, OPTIONS, file_of
from tests.campaigns.workbooks import workbook
from tests.support.started import enqueue_file
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.files.no_call import sense_of, told_beside, told_not_to_call
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.intake import RowEnqueuer
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy, sentences

pytestmark = pytest.mark.anyio

ROWS = "destination,name,not_before\n+6587654321,Ana,\n+6587654322,Ben,\n+6587654323,Cleo,2026-03-03T09:00:00Z\n"


@pytest.fixture
def listed(queue: CallQueue) -> SuppressionList:
    return SuppressionList(queue.store)


def counts(report: EnqueueReport) -> tuple[int, int, int, int, int]:
    return report.enqueued, report.duplicates, report.suppressed, report.rejected, report.valid


async def destinations(queue: CallQueue) -> list[str]:
    return [job.destination for job in await queue.find(limit=None)]


async def test_they_are_left_out_and_the_others_go(queue: CallQueue, listed: SuppressionList, tmp_path: Path) -> None:
    await listed.add("+6587654322", reason="asked by mail")
    dry = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW, dry_run=True)
    assert counts(dry) == (0, 0, 1, 0, 2)
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert (counts(report), report.refused) == ((2, 0, 1, 0, 2), False)
    (found,) = report.findings
    assert (found.row, found.column, found.is_error) == (3, "destination", False)
    assert found.message.startswith("is not called: its number has been on the suppression list since 2026-03-02")
    assert "asked by mail" in found.message
    assert await destinations(queue) == ["+6587654321", "+6587654323"]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_rows_that_are_not_called_are_among_the_rejects_with_their_reason(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, *, dry_run: bool
) -> None:
    await listed.add("+6587654322")
    rows = [{"name": "Ana", "Mobile": number} for number in ("+6587654321", "+6587654322", "12")]
    for form in ("csv", "jsonl"):
        options, rejects = replace(OPTIONS, columns={"destination": "mobile"}, batch_id=form), tmp_path / "rejects"
        path = written(tmp_path, rows, form)
        assert isinstance(path, Path)
        report = await enqueue_file(
            queue, path, options, now=NOW, skip_bad=True, again=True, rejects=rejects, dry_run=dry_run
        )
        assert (report.suppressed, report.rejected) == (1, 1)
        assert [str(found.column).lower() for found in report.findings] == ["mobile", "mobile"]
        bad, suppressed = [line for line in rejects.read_text("utf-8-sig").splitlines() if "obile: " in line]
        assert "'12' does not say its country" in bad
        assert "obile: is not called: its number has been on the suppression list since" in suppressed
        assert "+6587654322" in suppressed
        again = await enqueue_file(queue, rejects, options, now=NOW)
        assert (again.suppressed, again.rejected, again.enqueued) == (1, 1, 0)


async def test_a_number_is_left_out_in_whichever_way_it_was_written(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    await listed.add("+39 (0)6 1234 5678")
    rows = "destination,name\n+39 06 12345678,Ana\n+390612345678,Ben\n0039 (0)6 12345678,Cleo\n"
    assert counts(await enqueue_file(queue, file_of(tmp_path, rows), OPTIONS, now=NOW)) == (0, 0, 3, 0, 0)


async def test_a_row_whose_call_suppression_has_ended_is_suppressed(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    path = file_of(tmp_path, ROWS)
    await enqueue_file(queue, path, OPTIONS, now=NOW)
    await listed.add("+6587654322")
    report = await enqueue_file(queue, path, OPTIONS, now=NOW)
    assert (counts(report), report.ended) == ((0, 2, 1, 0, 0), {})


async def test_a_suppression_that_ends_before_the_row_is_due_does_not_count(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path
) -> None:
    await listed.add("+6587654321", "+6587654323", until=NOW + timedelta(hours=12))
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert counts(report) == (2, 0, 1, 0, 2)
    assert await destinations(queue) == ["+6587654322", "+6587654323"]


async def test_one_who_opts_out_while_the_file_is_read_is_left_out(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = RowEnqueuer.enqueue

    async def later(self: RowEnqueuer, rows: object, **how: Any) -> object:
        await listed.add("+6587654321")
        return await enqueue(self, rows, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(RowEnqueuer, "enqueue", later)
    report = await enqueue_file(queue, file_of(tmp_path, ROWS), OPTIONS, now=NOW)
    assert counts(report) == (2, 0, 1, 0, 2)
    assert [found.row for found in report.findings] == [2]


async def test_thousands_of_them_cost_a_read_for_each_chunk(
    queue: CallQueue, listed: SuppressionList, tmp_path: Path, clock: StillClock
) -> None:
    numbers = [f"+65{81000000 + place}" for place in range(1100)]
    await listed.add(*numbers[:1050])
    path = file_of(tmp_path, "destination,name\n" + "".join(f"{number},Ana\n" for number in numbers))
    report = await enqueue_file(queue, path, OPTIONS, now=clock.now())
    assert counts(report) == (50, 0, 1050, 0, 50)


# -- files of numbers --------------------------------------------------------------------------------------------------

ANA, BEN = "+6587654321", "+6587654322"
LANDS = "8765 4321,SG\n012-345 6789,Malaysia\n+44 7911 123456,Mars\n8765 4322,\n8765 4323,Mars\n"
AREAS = "Fone,Pais,Local,Area\n87654321,55,31,x\n5531987654322,55,31,x\n"
NUMBERS: list[tuple[str, str | None, ColumnRoles, list[str]]] = [
    # A file, the country of its numbers, which columns are named, and the numbers that are read.
    *((content, "SG", ColumnRoles(), [ANA, BEN]) for content in (
        "destination\n8765 4321\n+65 8765-4322\n", "Name;Phone Number\nAna;8765 4321\nBen;+65 8765-4322\n",
        "8765 4321\n\n+65 8765-4322\n8765-4321\n", "\ufeffmsisdn,note\r\n6587654321,x\r\n+6587654322,\r\n",
    )),
    ("Phone,Old Phone\n+6587654321,+6587654322\n", None, ColumnRoles(numbers=("old phone",)), [BEN]),
    ("area_code,phone\n202,4561111\n212,555-0100\n", "US", ColumnRoles(), ["+12024561111", "+12125550100"]),
    ("202,4561111\n212,5550100\n", "US", ColumnRoles(), ["+12024561111", "+12125550100"]),
    ("202;4561111\n", "US", ColumnRoles(), ["+12024561111"]),
    ("Area,Phone\n202,(202) 456-1111\nNorth,202 456 1112\n", "US", ColumnRoles(), ["+12024561111", "+12024561112"]),
    ("Vorwahl;Telefon\n030;1234567\n(0151);23456789\n030;+43 1 2345678\n", "DE", ColumnRoles(),
     ["+49301234567", "+4915123456789", "+4923456789", "+4312345678"]),
    ("DDD,telefone\n31,8765-4321\n", "BR", ColumnRoles(), ["+5531987654321"]),
    (AREAS, None, ColumnRoles(numbers=("Fone",), calling_code="Pais", area_code="Local"),
     ["+5531987654321", "+5531987654322"]),
    ("home,work\n+6587654321,+6587654322\n,+6587654323\n", None, ColumnRoles(numbers=("home", "work")),
     [ANA, BEN, "+6587654323"]),
    ("Phone,Fax\n+6587654321,+6587654322\n", None, ColumnRoles(ignored=("fax",)), [ANA]),
    ("phone\n\"=\"\"+6587654321\"\"\"\n'+6587654322\n", None, ColumnRoles(), [ANA, BEN]),
    *((f"{header}\n+6587654321,81234567\n", None, ColumnRoles(), [ANA])
      for header in ("phone,name", "phone,customer id", "Number,House number", "tel,Telegram")),
]  # fmt: skip
REFUSED: list[tuple[str, str | None, ColumnRoles, str]] = [
    (f"Phone,Land\n{LANDS}", None, ColumnRoles(countries=("Staat",)),
     "has no column 'Staat'; columns found: Phone, Land"),
    (f"Phone,Land\n{LANDS}", "SG", ColumnRoles(countries=("land",)), "exclude each other"),
    ("Phone,Old Phone\n+6587654321,\n", None, ColumnRoles(numbers=("fax",)),
     "has no column 'fax'; columns found: Phone, Old Phone"),
    (AREAS, None, ColumnRoles(numbers=("Fone",), calling_code="Codigo"), "has no column 'Codigo'"),
    *((f"{line}\n{line}\n", "SG", ColumnRoles(), "begins with a line that looks like data; add a header line")
      for line in ("+6587654321,+6587654322", "8765 4321;8765 4322", "Ana,+6587654321")),
    *((content, None, ColumnRoles(), "") for content in ("", "\n\n", "name,colour\nAna,red\n")),
    ("+6587654321\n", "XX", ColumnRoles(), "is not a country"),
]  # fmt: skip
SEVERAL = {
    "Phone 1,Phone 2\n+6587654321,+6587654322\n": "Phone 1, Phone 2",
    "name,mobile,phone\nAna,+6587654321,\n": "mobile, phone",
    "Home Phone;Work Phone;Fax\n+6587654321;;\n": "Home Phone, Work Phone, Fax",
    "Tel1,Tel2\n+6587654321,\n": "Tel1, Tel2",
    "destination,handphone\n+6587654321,\n": "destination, handphone",
    "phone,second\n+6587654321,\n+6587654322,+65 8765 4323\n": "phone, second",
    "cell,whatsapp_number\n+6587654321,\n": "cell, whatsapp_number",
}  # fmt: skip


class TestFilesOfNumbers:
    def test_a_column_or_a_plain_list_is_read(self, tmp_path: Path) -> None:
        for content, country, roles, numbers in NUMBERS:
            found = read_number_file(file_of(tmp_path, content), country=country, roles=roles)
            assert (list(found.numbers), found.findings) == (numbers, []), content

    def test_a_file_without_numbers_or_without_a_column_that_is_named_is_refused(self, tmp_path: Path) -> None:
        for content, country, roles, said in REFUSED:
            with pytest.raises((CampaignFileError, InvalidInputError), match=said or None):
                read_number_file(file_of(tmp_path, content), country=country, roles=roles)

    def test_the_country_of_each_number_may_be_that_of_its_row(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, f"Phone,Land\n{LANDS}")
        found = read_number_file(path, roles=ColumnRoles(countries=("land",)))
        assert list(found.numbers) == [ANA, "+60123456789", "+447911123456"]
        assert [(each.row, Remedy.NAME_COUNTRIES in each.message) for each in found.findings] == [(5, True), (6, False)]
        (refused,) = read_number_file(file_of(tmp_path, "202,4561111\n")).findings
        assert Remedy.NAME_COUNTRY in refused.message, "for what it is"

    def test_a_file_with_several_columns_of_numbers_says_which(self, tmp_path: Path) -> None:
        for content, shown in SEVERAL.items():
            path = file_of(tmp_path, content)
            sentence = f"several columns look like telephone numbers ({shown}); name the column of numbers, or each of"
            with pytest.raises(CampaignFileError, match=re.escape(sentence)) as raised:
                read_number_file(path)
            assert Remedy.NAME_COLUMNS in str(raised.value)
            named = read_number_file(path, roles=ColumnRoles(numbers=(*shown.split(", "),)))
            assert (len(named.numbers), named.findings) == (content.count("+65"), [])
            first = read_number_file(path, roles=ColumnRoles(numbers=(shown.partition(", ")[0],)))
            assert list(first.numbers)[:1] in ([ANA], [])

    def test_a_list_has_any_format_of_campaigns_and_rows_that_are_left_out(self, tmp_path: Path) -> None:
        header = ("Phone", "Name", "Status", "Phone 2")
        people = [(6587654321, "Ana", "Left", "+6587654325"), (BEN, "#N/A", "left", None),
                  ("+6587654323", "Cy", "Active", None)]  # fmt: skip
        rows = [dict(zip(header, each, strict=True)) for each in people]
        roles = ColumnRoles(numbers=("phone", "Phone 2"))
        for form in ("csv", "xlsx", "jsonl"):
            path = written(tmp_path, rows, form)
            assert isinstance(path, Path)
            found = read_number_file(path, roles=roles, country="international", leave_out="Status=active")
            assert [each.message for each in found.findings] == [], path
            assert list(found.numbers) == [ANA, "+6587654325", BEN], path
            assert (found.left_out, found.as_json()["left_out"]) == (1, 1)
            same = read_number_file(path, roles=roles, country="international", only="Status=Left")
            assert (list(same.numbers), same.left_out) == (list(found.numbers), 1), path
            with pytest.raises(CampaignFileError, match=r"several columns look like .*\(Phone, Phone 2\)"):
                read_number_file(path)
            for wrong in ("Status=Act*", "Rank=1"):
                if form != "jsonl" or wrong != "Rank=1":
                    with pytest.raises(CampaignFileError, match=r"compared whole|no column 'Rank'"):
                        read_number_file(path, roles=roles, country="international", leave_out=wrong)

    def test_a_bad_cell_of_a_workbook_is_told_and_a_title_above_its_header_is_passed_over(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, [["List"], ["Phone", "Note"], [6.58765e9, "x"], [BEN, "y"]], Other=[["a"]])
        with pytest.raises(CampaignFileError, match="several sheets"):
            read_number_file(path)
        found = read_number_file(path, sheet="people", header_row=2, country="international")
        assert [(each.row, "ends in zeros" in each.message) for each in found.findings] == [(3, True)]
        assert BEN in found.numbers

    def test_what_protects_nobody_is_told(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "phone\n456-1111\n202 456 1111\n+553187654321\n+4411\n")
        found = read_number_file(path, country="US")
        assert [(each.row, "14561111" in each.message) for each in found.warnings] == [(2, True), (4, False)]

    def test_every_line_without_a_number_is_reported(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone,name\n+6587654321,Ana\nnone,Ben\n,Cleo\n+6587654322\n"))
        assert [(each.row, each.code) for each in found.findings] == [(3, -1017), (4, -1017)]
        assert (found.rows, list(found.numbers)) == (4, [ANA, BEN])
        path = file_of(tmp_path, "name,tel 1,tel 2\nAna,,+6587654321\nBen,,\nCy,+6587654322,none\n")
        found = read_number_file(path, roles=ColumnRoles(numbers=("Tel 1", "TEL-2")))
        assert (found.rows, [each.row for each in found.findings]) == (3, [3, 4])
        assert list(found.numbers) == [ANA, BEN]

    def test_a_number_with_two_readings_is_protected_in_both(self, tmp_path: Path) -> None:
        found = read_number_file(file_of(tmp_path, "phone\n0 0151 23456789\n"), country="DE")
        assert (set(found.numbers), len(found.warnings)) == ({"+15123456789", "+4915123456789"}, 2)


# -- what says whom not to call: names of columns, cells, remarks beside names -----------------------------------------

MUST_NOT = """
Do Not Call, DoNotCall, DO-NOT-CALL, Don't call, DNC, Is DNC?, dnc_flag, Do not contact, Opt out, Opt-Out
OptedOut, opted_out, Opt Out Date, Unsubscribed, Deceased, Is Deceased, Gesperrt, Sperre, Sperrkennzeichen
Sperrvermerk, Werbesperre, Anrufsperre, Nicht anrufen, Verstorben, Ne pas appeler, Décédé, Bloctel, No llamar
Fallecido, Lista Robinson, Não ligar, Falecida, Non chiamare, Deceduto, Niet bellen, Overleden, Ring ej, Avliden
Ikke ring, Nie dzwonić, Не звонить, Aramayın, Jangan hubungi, 请勿致电, 勿扰, 已故, 電話不可, 수신거부, ห้ามโทร, TPS
TPS registered, CTPS, TPS result, DNCR result, DNCR, DNC Registry, DNCL, DND, DND status, NDNC, NCPR
Blacklisted, Blacklist, Black-listed, Blocklist, HasOptedOutOfCalls, HasOptedOutOfCalls__c, Do_Not_Call__c
hs_do_not_call, Date of death, Death Date, DateOfDeath, Died, Died on, Is dead, Todesdatum, Todestag
Sterbedatum, Gestorben am, Date de décès, Date du décès, Fecha de defunción, Fecha de fallecimiento
Data di morte, Data do óbito, Overlijdensdatum, Dödsdatum, Dødsdato, Data zgonu, Datum úmrtí, Дата смерти
Ölüm tarihi, Tarikh meninggal, Ngày mất, 死亡日期, 死亡日, 사망일, วันที่เสียชีวิต, Must not be called, May not be called
Not to be called, Do not disturb, Never call, Stop calling, Don't ring, Do not call or email, Phone/SMS opt-out
Opted out of calls, No consent, Consent withdrawn, Consent refused, Einwilligung widerrufen, Keine Einwilligung
Telefonwiderspruch, Robinson, Registro delle opposizioni, NIX, NIX-Telefon, REPEP, Não me perturbe, Lista negra
Liste noire, Schwarze Liste, Svartlista, Czarna lista, Чёрный список, Kara liste, Daftar hitam, 黑名单
Blacklisted?, Suppressed, On suppression list, DNC List, On DNC?, National Do Not Call, TCPA litigator
Objects to calls, Refuses calls, Do not contact by phone, no call list, darf nicht angerufen werden
Do Not Phone, doNotPhone, DoNotPhone, do-not-ring, is_deceased, Deceased?
Excluded from calls, No telephone contact, No marketing calls, Telephone Preference Service, Passed away
Date of passing, Objection to calls, GDPR objection, Robinsonliste, ECG-Liste, Anrufverbot, Kontaktverbot
Widerspruch Telefon, Kein Telefonkontakt, Anruf unerwünscht, Opposition téléphone, Opposé au démarchage
Ne pas démarcher, Refus d'appel, Refuse les appels, Désabonné, No desea llamadas, No quiere llamadas, No molestar
Não incomodar, Recusa chamadas, Não deseja ligação, Iscritto RPO, Revoca consenso, Non disturbare, Data decesso
Niet meer bellen, Niet benaderen, Recht van verzet, Spärrad, Reservert mot telefonsalg, Dødsfall, Kuollut, Älä soita
Soittokielto, Puhelinmyyntikielto, Nie kontaktować, Data śmierci, Nekontaktovat, Zemřel, Nehívható, Ne hívja, Elhunyt
Nu contacta, Decedat, Μην καλείτε, Μητρώο άρθρου 11, Αποβιώσας, Не беспокоить, Умер, Отказ от звонков
Відмова від дзвінків, Aranmasın, Arama engelli, İYS Ret, Jangan ditelepon, Tolak panggilan, Từ chối cuộc gọi
ห้ามติดต่อ, ไม่ให้โทร, 拒绝来电, 谢绝来电, 不要打电话, 免打扰, 逝世, 架電禁止, 電話NG, お断り, 故人, 통화거부, 연락금지
कॉल न करें, मृत, لا تتصل, متوفى, אל תתקשרו, נפטר, ＤＮＣ
Ne pas déranger, Opposition démarchage, Får ej ringas, Reservert, Reservasjonsregisteret, Ei saa soittaa, Ei soitella
A nu se contacta, Ne zovi, Ne kliči, Не звъни, Huwag tawagan, Tidak boleh dihubungi, אין להתקשר, Preminuo, Umrl
Починал, Đã mất, Sprzeciw, Hívástilalom, 着信拒否, Blocked, Bloqueado, Bloqueio, Descadastrado, Lista de exclusión
RPO iscritto
"""
"""Columns in which a yes means that a person must not be called."""
MAY = """
Consent to phone calls, Consent to call, Einwilligung Telefon, Einwilligung zu Anrufen, May we call?
May we contact you, May be called, Can we call, Permission to call, OK to call, Okay to call?, Ok To Phone
Phone consent, Call consent, Consent - Phone, ConsentToCall, consent_phone, phone_opt_in, PhoneOptIn
HasOptedInToCalls, Opted in (calls), Calls allowed, Phone calls permitted, Allow calls, AllowPhoneCalls
Accepts calls, Agrees to be called, Agreed to phone calls, Consent, Consented, Consent given, Has consent
Opt in, Opt-in, OptedIn, GDPR consent, DSGVO-Einwilligung, Einwilligung, Einwilligung erteilt
Einwilligung Anruf, Anruf erlaubt, Telefonische Kontaktaufnahme erlaubt, Darf angerufen werden
Zustimmung Telefon, Einverständnis Telefon, Consentement téléphone, Accepte les appels, Autorise les appels
Accord téléphonique, Autorisation d'appel, Consentimiento telefónico, Acepta llamadas, Permiso para llamar
Autoriza llamadas, Consentimento telefone, Aceita ligações, Autoriza ligações, Consenso telefonico
Consenso chiamate, Toestemming telefoon, Toestemming bellen, Mag gebeld worden, Samtycke telefon
Samtykke til telefon, Zgoda na kontakt telefoniczny, Zgoda telefon, Souhlas s telefonováním, Согласие на звонок
Згода на дзвінки, Telefon izni, Arama izni, Izin telepon, Persetujuan telepon, Kebenaran panggilan
Đồng ý gọi điện, 同意电话联系, 电话同意, 允许致电, 電話可否, 電話連絡同意, 전화 동의
ยินยอมให้โทร, Contact permission, Consent to contact
Consent to be contacted, Callable, Contactable, Can call, Do we have permission to call, TCPA consent to call
Phone permission, Voice call consent, Alive
Puede llamar, Pode ligar, Può essere chiamato, Mag gebeld, Telefonisch contact toegestaan, Poate fi sunat
Smije se zvati, Съгласие за обаждане, Må ringes, Saa soittaa, İletişim izni, Anrufe erwünscht, 수신 동의
Consent Y/N, Contact by phone?, Happy to be called, Voice consent, Telemarketing consent, GDPR, GDPR phone, TCPA consent
Kontakt erlaubt, Zustimmung, DSGVO Telefon, Darf kontaktiert werden, Dürfen wir anrufen?, Anruf gewünscht
Peut-on vous appeler ?, RGPD téléphone, Démarchage accepté, Consiente llamadas, ¿Podemos llamar?, Aceita chamadas
Consentimento chamadas, Podemos ligar?, Possiamo chiamare?, Toestemming, Mogen wij bellen?, Samtycke
Samtycke till samtal, Får vi ringa?, Samtykke til oppringning, Kan vi ringe?, Suostumus puheluihin, Saako soittaa?
Zgoda na kontakt, Zgoda na rozmowy, Czy można dzwonić?, Souhlas s voláním, Můžeme volat?, Hívható, Acord telefonic
Συγκατάθεση κλήσεων, Можно звонить?, Можна дзвонити?, Aranabilir mi?, İYS onay, Izin menelepon, Boleh ditelepon
Đồng ý, ยินยอมรับสาย, 同意, 接受来电, 願意接聽, 電話OK, 동의 여부, 연락 동의, सहमति, موافقة على الاتصال, הסכמה לשיחות
"""
"""Columns in which a no means so."""
ORDINARY = """
HasOptedOutOfEmail, Email Opt Out, SMS opt-out, Fax gesperrt, Newsletter unsubscribed, E-Mail-Sperre
Unsubscribe link, name, Status, Calls, Notes, Contact, Sperrgut, Liefersperre, Adnce, Last call, Dance
First Name, Last Name, Phone, Email, Company, Title, Lead Source, Lead Status, Rating, Owner, Created Date
Last Activity, Street, City, State, Postal Code, Country, Fax Opt Out, HasOptedOutOfFax, Email Marketing Consent
SMS Consent, Accepts Email Marketing, Accepts SMS Marketing, Total Spent, Total Orders, Tags, Note, Tax Exempt
Consent form received, Consent form signed, Consent to treatment, Consent to photo, Photo consent
Consent for surgery, Consent date, Consent form sent, Parental consent form, Recording consent
Call recording consent, Consent to recording of calls, Data sharing consent, Vaccination consent, Media consent
Informed consent, Consent to email, Email consent, WhatsApp consent, Marketing opt-in, Newsletter opt-in
Email opt in, SMS opt in, Einwilligung Foto, Einwilligung E-Mail, Datenschutzerklärung unterschrieben
Fotoerlaubnis, Einwilligung OP, Comments, Remarks, Flag, Category, Bemerkung, Hinweis, Remarque, Observaciones
Nota, Call notes, Call status, Call attempts, Last called, Called, Call back, Callback requested, Call back at
Call time, Preferred call time, Best time to call, Time to call, Call date, Call result, Call outcome
Calls made, Missed calls, May calls, No. of calls, No calls, Number of calls, Call duration, Answered
Voicemail left, Recall, Recall date, Recall due, Last contact, Next contact, Contact person, Contact name
Contact No, Contact number, No. Contact, Emergency contact, Emergency contact phone, Emergency contact name
Authorized contact, Primary contact, Phone type, Phone 2, Phone verified, Phone valid, Phone number confirmed
Home phone, Work phone, Mobile provider, Phone ext, Can receive texts, Text OK, Appointment, Appointment date
Appointment time, Doctor, Clinic, Department, Room, Ward, Confirmed, Cancelled, Rescheduled, No show, Attended
Arrived, Paid, Amount, Balance, Due date, Overdue, Invoice, Invoice No, Currency, Deposit, Refund, Insurance
Insured, Policy, Policy number, Valid until, Premium, Death benefit, Death cover, Life insurance, Cause
Deadline, Deductible, Approved, Accepted, Rejected, Agreed price, Permit number, Work permit, Parking permit
Permit expiry, License, Licence, Allowance, Allergies, Blood type, Pregnant, Smoker, Disability
Interpreter needed, Language, Gender, Male, Age, Date of birth, DOB, Married, Spouse, Spouse name, Children
Next of kin, Nationality, Passport, Visa, Member, Member since, Membership, Member status, VIP, Priority
Loyalty points, Discount, Coupon, Voucher, Order, Order number, Order date, Delivery, Delivery date, Delivered
Delivery note, Tracking number, Product, Product recall, Quantity, Size, Colour, Weight, Price, Total, Warehouse
Supplier, Driver, Vehicle, Plate, Mileage, MOT due, Service due, Inspection, Meter reading, Contract
Contract end, Renewal, Renewed, Signed, Signed up, Registered, Registered on, Active, Inactive, Closed, Locked
Verified, KYC, Fraud, Credit score, Loan, Loan accepted, Card blocked, Account blocked, Blocked amount, Student
Student ID, Class, Grade, Teacher, Parent, Guardian, School, Course, Enrolled, Fees, Fees paid, Transport, Bus
Route, Lunch, Uniform, Event, Ticket, Seat, Table, Guests, RSVP, Attending, Dietary, Check-in, Check in date
Checked in, Check out, Nights, Rate, Booking, Booking ref, Booked, Channel, Source, Campaign, Batch, Region
Area, District, Zone, Branch, Store, Agent, Salesperson, Manager, Team, Shift, Shift start, Start, End, Position
Hired, Terminated, Employee, Payroll, Overtime, On leave, Absent, Present, Vorname, Nachname, Telefon, Handy
Straße, PLZ, Ort, Termin, Uhrzeit, Arzt, Praxis, Kunde, Kundennummer, Rechnung, Betrag, Fällig, Bezahlt, Vertrag
Anrede, Titel, Geburtsdatum, Krankenkasse, Versichert, Letzter Anruf, Rückruf, Rückruf erwünscht
Rückruf gewünscht, Nom, Prénom, Téléphone, Rendez-vous, Médecin, Montant, Payé, Rappel, Rappel souhaité, Nombre
Apellidos, Teléfono, Cita, Importe, Pagado, Nome, Cognome, Telefono, Appuntamento, Naam, Telefoon, Afspraak
Namn, Tid, Imię, Nazwisko, Jméno, Имя, Телефон, 姓名, 电话, 預約, 名前, 電話番号, 予約日
이름, 전화번호, Nama, No HP, Tarikh, Họ tên
Số điện thoại, ชื่อ, โทรศัพท์, DNC checked, DNC check date, TPS checked on, Last DNC scrub date
Date screened against TPS, Opening hours, Can attend, May attend, May 2026, Ok, OK, Phone plan approved, Nixon
Robin, Predecessor, Optician, Option, Optional, Opted plan, Stop, Stops, Bus stop, Stop date
Do not disturb before, Do not call before, Do not call after 9pm, Website permission, Login allowed
Access permission, Remote work allowed, Pets allowed, Smoking allowed, Telehealth, Telehealth consent form
Tel extension, Ring size, Ringtone, Caller ID, Callsign, Call centre, Living room, Date, Suppressor
Immunosuppressed, Litigation type, Bestattung, Totalbetrag
Consent form no, Reason, Reason for call, Contact preference, Calls allowed per month, Permit holder phone, Call plan
Died back, Dead stock, Suppliers, Objection, Do not fold, Karte gesperrt, Konto gesperrt, Sperrmüll, Kontosperre
Verstorbene Ehefrau, Deceased spouse, Zustimmung OP, Einwilligung Impfung, Widerspruch eingelegt, Darf abholen
Appel d'offres, Nombre d'appels, Accord préalable, Autorisation de sortie, Assurance décès, Capital décès
Opposition bancaire, Refus de soins, Llamadas, Acepta mascotas, Consentimiento informado, Baja, Ligações, Óbitos
Aceita cartão, Consenso informato, Chiamate, Opposizione, Stopcontact aanwezig, Terugbellen, Akkoord offerte, Samtal
Samtycke foto, Avliden make, Reservasjon, Ringetid, Zgoda na zabieg, Rozmowa, Souhlas s operací, Volání, Умеренная боль
Согласие на операцию, Нумерация, Yıllık izin, Arama tarihi, Panggilan, Surat izin, Persetujuan operasi, Cuộc gọi
可用电话, 来电时间, 同意书, 可退款, 電話可能時間, 架電日, 許可番号, 死亡保険, 통화시간, 수술 동의
โทรกลับ, कॉल समय, وقت الاتصال
"""
"""Columns of the exports of programs for customers, patients, pupils, orders and staff, which say nothing of it."""


def names_in(text: str) -> list[str]:
    return text.strip().replace("\n", ", ").split(", ")


def test_the_names_of_columns_that_say_whom_not_to_call() -> None:
    assert [name for name in names_in(MUST_NOT) if sense_of(name) != "must_not"] == []
    assert [name for name in names_in(MAY) if sense_of(name) != "may"] == []


def test_other_columns_say_nothing_whatever_they_hold() -> None:
    names = names_in(ORDINARY)
    assert len(names) > 400
    cells = (
        "No", "Yes", "0", "1", "x", "", "n/a", "Anna Robinson", "2026-01-01", False, True, "Not yet", "Unsubscribed",
    )  # fmt: skip
    assert [(name, cell) for name in names for cell in cells if told_not_to_call(name, cell)] == []


CELLS: dict[str, tuple[tuple[object, ...], tuple[object, ...]]] = {
    "Consent to phone calls": (
        ("No", "n", "FALSE", False, 0, "0", "0.0", "Nein", "Non", "不", "Refused", "declined", "Withdrawn", "not given",
         "no - email only", "Nein, nur Post", "opted out", "Do not call"),
        ("Yes", "y", True, 1, "given", "verbal", "2026-01-01", "", "-", "n/a", None, "Yes, no sms"),
    ),
    "TPS": (
        ("Yes", "Registered", "listed", 1, "x", "On TPS", "2024-01-01", True, ["a"]),
        ("No", "N", 0, False, "Not registered", "Clear", "not listed", "No match", "Not on do not call list", "OK", "",
         "-", "n/a", None, "non inscrit"),
    ),
    "DNC": (("y", "since 2020", "do NOT call", "Blocked", "Not to be called", "no calls please"), ("no", "clear")),
    "Deceased": (("Yes", "2024-05-01"), ("No", "Alive")),
    "DND status": (("Fully blocked", "DND"), ("Non-DND", "no")),
    "Notes": (
        ("DO NOT CALL", "do not call.", "Please do not call!", "Moved; do not contact", "DNC", "nicht anrufen",
         "don\u2019t call", "Deceased", "verstorben"),
        ("Do not call before 9", "do not call after 8pm", "don't call at work", "do not contact by email",
         "no allergies", "Husband deceased", "Do not call mobile, use landline first", "dance class", 7, "x" * 100_000),
    ),
}  # fmt: skip
"""For a column, the cells that say not to call, and those that do not."""


def test_a_cell_counts_by_what_it_means_in_the_sense_of_its_column() -> None:
    for name, (told, silent) in CELLS.items():
        assert [cell for cell in told if told_not_to_call(name, cell) is not sense_of(name)] == [], name
        assert [cell for cell in silent if told_not_to_call(name, cell) is not None] == [], name


def test_a_name_or_cell_of_any_length_is_read_at_once() -> None:
    began = process_time()
    assert sense_of("call " * 20_000) is None
    assert told_not_to_call("DNC", "no " * 100_000) is None
    assert process_time() - began < 1, "seconds of the processor"


REMARKS = """
Mrs Tan (DO NOT CALL), DO NOT CALL - Tan, Müller (verstorben), Müller †, Ana [DNC], Ana (DND)
Bob don't call, Ana *opted out*, Mme Roy (décédée), Sra. Paz (no llamar), Do not contact: Li, Kari (må ikke ringes)
Jan (niet meer bellen), 王小明 拒接, Mme Roy (DCD), Иванов (умер), 王小明(请勿致电), Ana (gesperrt)
nicht anrufen! Meier
"""


NAMES = """
Anna Robinson, Nix, Tom Dance, Ann Dial, Call Me Maybe, Contact Lens Co, Dominic Ring, Romano Conta, Carlos Aramayo
Nollamara, Dead Sea Spa, Sperrle, Avdotya, Dncan, Jean-Paul Appel, Ms Ringstad, Donatella Callas, Tod Bestattung
"""


def test_a_remark_beside_a_name_is_none_of_the_name() -> None:
    assert [name for name in ("Tan, deceased", *names_in(REMARKS)) if not told_beside(name)] == []
    assert [name for name in names_in(NAMES) if told_beside(name)] == []


# -- what is told grows by what rows say, not by rules: there is a ceiling ---------------------------------------------

PACKAGE = Path(voiceflow_worker.__file__).parent
FROZEN = {"campaigns/files/no_call.tsv": "2b1ac8fa84fefa45"}
"""The words by which columns and cells are known to say whom not to call."""


def test_a_case_gets_no_kind_of_message_of_its_own() -> None:
    """A case is closed by a kind that stands, by one that takes the place of two, or by what is shown with counts."""
    assert len(sentences()) <= 96


def test_no_word_is_added_to_a_list_of_words() -> None:
    for name, digest in FROZEN.items():
        rows = [line for line in (PACKAGE / name).read_text(encoding="utf-8").splitlines() if line[:1] not in {"", "#"}]
        assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == digest, name
