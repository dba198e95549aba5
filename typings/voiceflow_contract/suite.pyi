from tests.contract.suite import Opener as Opener
from tests.contract.suite import StoreContract as StoreContract
