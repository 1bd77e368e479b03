"""Stage compare: all methods side by side, each gain with its interval.

python -m stages.compare            write the summary, details, tables, picture and report
python -m stages.compare --show     print the summary that was written
"""

import sys

from stages.errors import reported

if __name__ == "__main__":
    with reported():
        if sys.argv[1:] == ["--show"]:
            from stages.compare.terminal import show

            show()
        else:
            from stages.compare.every_method import main

            main()
