# The public names of this room, each with its module. A name is loaded when it is first used.
from .signature import verify_notification as verify_notification
from .webhook import OutcomeWebhook as OutcomeWebhook
