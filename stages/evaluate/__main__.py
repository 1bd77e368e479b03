"""Stage evaluate@METHOD: the only reader of the test split.

python -m stages.evaluate METHOD
"""

import sys

from stages.errors import reported
from stages.training.workers import warm_up

if __name__ == "__main__":
    with reported():
        # The server of the workers imports the same as this process, at the same time.
        warm_up("stages.evaluate.measuring")
        from stages.evaluate.every_model import main
        from stages.settings.load import named_method

        main(named_method("evaluate", sys.argv[1:]))
