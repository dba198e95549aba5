#!/bin/sh
# espeakng-loader 0.2.4, whose voices are eSpeak NG 1.52.0: a time of day says the hour's word twice in German.
# Guess: "um 16:00 Uhr", as every German letter writes it, is heard as "sechzehn Uhr".
# What happens: the colon becomes a word, so that 16:00 is "sechzehn Uhr null null", and the Uhr behind it is said once
# more. Without the word, a text is heard as a German would say it but for the full hour.
# Seen: "16:00 Uhr" has the phonemes of "16 Uhr null null Uhr"; Dutch "16:00 uur" has its word once.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check espeakng-loader==0.2.4
cd "$dir"
bin/python - <<'END'
import ctypes

import espeakng_loader

voices = ctypes.cdll.LoadLibrary(espeakng_loader.get_library_path())
voices.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
voices.espeak_Info.restype = voices.espeak_TextToPhonemes.restype = ctypes.c_char_p


def spoken(language, text):
    if voices.espeak_SetVoiceByName(language.encode()):
        raise SystemExit(f"no voice {language}")
    rest, phonemes = ctypes.c_char_p(text.encode()), b""
    while rest.value is not None:
        phonemes += voices.espeak_TextToPhonemes(ctypes.byref(rest), 1, 0)
    return "".join(sign for sign in phonemes.decode() if sign.isalpha() or sign == ":")


seen = [
    voices.espeak_Info(None).decode(),
    spoken("de", "16:00 Uhr").count("u:r"),
    spoken("de", "16:00").count("u:r"),
    spoken("de", "16 Uhr").count("u:r"),
    spoken("nl", "16:00 uur").count("yr"),
]
expected = ["1.52.0", 2, 1, 1, 1]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
