# The public names of this room, each with its module. A name is loaded when it is first used.
from .caller import Caller as Caller
from .menu import BACK as BACK
from .menu import END as END
from .menu import End as End
from .menu import Retry as Retry
from .menu_data import ask as ask
from .menu_data import do_not_call_again as do_not_call_again
from .simulated_call import SimulatedCall as SimulatedCall
