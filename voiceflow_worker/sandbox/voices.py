"""Voices of the sandbox's account: those of the 8x8 guides, of our pages and examples."""

from __future__ import annotations

# fmt: off
VOICES = (
    ("en-US-BenjaminRUS", "en-US", "English (United States)", "Male"),
    ("en-US-JennyNeural", "en-US", "English (United States)", "Female"),
    ("en-IE-EmilyNeural", "en-IE", "English (Ireland)", "Female"),
    ("en-GB-SoniaNeural", "en-GB", "English (United Kingdom)", "Female"),
    ("en-SG-LunaNeural", "en-SG", "English (Singapore)", "Female"),
    ("id-ID-GadisNeural", "id-ID", "Indonesian (Indonesia)", "Female"),
    ("th-TH-PremwadeeNeural", "th-TH", "Thai (Thailand)", "Female"),
    ("zh-CN-XiaoxiaoNeural", "zh-CN", "Chinese (Mandarin, China)", "Female"),
    ("de-DE-KatjaNeural", "de-DE", "German (Germany)", "Female"),
    ("es-ES-ElviraNeural", "es-ES", "Spanish (Spain)", "Female"),
    ("fr-FR-DeniseNeural", "fr-FR", "French (France)", "Female"),
    ("el-GR-AthinaNeural", "el-GR", "Greek (Greece)", "Female"),
    ("ja-JP-NanamiNeural", "ja-JP", "Japanese (Japan)", "Female"),
    ("pl-PL-ZofiaNeural", "pl-PL", "Polish (Poland)", "Female"),
    ("pt-BR-FranciscaNeural", "pt-BR", "Portuguese (Brazil)", "Female"),
    ("tr-TR-EmelNeural", "tr-TR", "Turkish (Türkiye)", "Female"),
)
# fmt: on
"""For each voice its code, locale, language and gender."""
