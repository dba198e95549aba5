from voiceflow_worker import End, Menu
from voiceflow_worker.ivr import do_not_call_again

delivery = Menu(
    "delivery",
    prompt="Hello {{name}}. Your parcel {{parcel}} comes tomorrow. If you are at home press 1, for another day press "
    "2, not to be called again press 9.",
    voice_profile="en-US-JennyNeural",
    retry_text="Sorry, that is not a valid choice.",
    fallback=End("Goodbye."),
)
delivery.on("1", result="confirmed", goto=End("Thank you, {{name}}. See you tomorrow."))
delivery.on("2", result="another day", goto=End("We will write to you about another day."))
delivery.on("9", result="do not call", goto=End("You will not be called again. Goodbye."), do=do_not_call_again)
