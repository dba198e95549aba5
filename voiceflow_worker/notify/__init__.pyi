# The public names of this room, each with its module. A name is loaded when it is first used.
from .webhook import OutcomeWebhook as OutcomeWebhook
from .webhook import verify_notification as verify_notification
