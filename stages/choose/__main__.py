"""Stage choose@METHOD: by one search for every method, the finetuning recipe of each budget.

The test split is not an input of this stage, so nothing here can depend on it.

    python -m stages.choose METHOD
"""

import sys

from stages.errors import reported
from stages.settings.load import named_method
from stages.settings.values import available_methods
from stages.training.workers import warm_up

if __name__ == "__main__":
    with reported():
        method = named_method("choose", sys.argv[1:])
        if method in available_methods():
            # The server of the workers imports the same as this process, at the same time.
            warm_up("stages.choose.trials", "torch._dynamo")
        from stages.choose.every_budget import main

        main(method)
