# The public names of this room, each with its module. A name is loaded when it is first used.
from .approval import approval_call as approval_call
from .approval import approval_data as approval_data
from .approval import choice_of as choice_of
from .caller import BridgeResult as BridgeResult
from .caller import Caller as Caller
from .menu import BACK as BACK
from .menu import END as END
from .menu import AfterBridge as AfterBridge
from .menu import Again as Again
from .menu import End as End
from .menu_data import ask as ask
from .menu_data import do_not_call_again as do_not_call_again
from .rehearsal import Rehearsal as Rehearsal
