"""Stage evaluate@METHOD: the only reader of the test split.

python -m stages.evaluate METHOD
"""

import sys

from stages.errors import reported
from stages.settings.load import named_method
from stages.settings.values import available_methods
from stages.training.workers import warm_up

if __name__ == "__main__":
    with reported():
        method = named_method("evaluate", sys.argv[1:])
        if method in available_methods():
            # The server of the workers imports the same as this process, at the same time.
            warm_up("stages.evaluate.measuring")
        from stages.evaluate.every_model import main

        main(method)
