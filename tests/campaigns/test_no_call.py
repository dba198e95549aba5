"""What says whom not to call: the names of columns in both senses, their cells, and remarks beside names."""

# ruff: noqa: RUF001 - words in other scripts

from __future__ import annotations

from time import process_time

from voiceflow_worker.campaigns.files.no_call import sense_of, told_beside, told_not_to_call

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
        "No",
        "Yes",
        "0",
        "1",
        "x",
        "",
        "n/a",
        "Anna Robinson",
        "2026-01-01",
        False,
        True,
        "Not yet",
        "Unsubscribed",
    )
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


REMARKS = (
    *("Mrs Tan (DO NOT CALL)", "DO NOT CALL - Tan", "Tan, deceased", "Müller (verstorben)", "Müller †", "Ana [DNC]"),
    *(
        "Ana (DND)",
        "Bob don't call",
        "Ana *opted out*",
        "Mme Roy (décédée)",
        "Sra. Paz (no llamar)",
        "Do not contact: Li",
    ),
    *("Kari (må ikke ringes)", "Jan (niet meer bellen)", "王小明 拒接", "Mme Roy (DCD)", "Иванов (умер)"),
    *("王小明(请勿致电)", "Ana (gesperrt)", "nicht anrufen! Meier"),
)
NAMES = (
    *(
        "Anna Robinson",
        "Nix",
        "Tom Dance",
        "Ann Dial",
        "Call Me Maybe",
        "Contact Lens Co",
        "Dominic Ring",
        "Romano Conta",
        "Carlos Aramayo",
        "Nollamara",
    ),
    *(
        "Dead Sea Spa",
        "Sperrle",
        "Avdotya",
        "Dncan",
        "Jean-Paul Appel",
        "Ms Ringstad",
        "Donatella Callas",
        "Tod Bestattung",
    ),
)


def test_a_remark_beside_a_name_is_none_of_the_name() -> None:
    assert [name for name in REMARKS if not told_beside(name)] == []
    assert [name for name in NAMES if told_beside(name)] == []
