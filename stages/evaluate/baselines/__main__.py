"""Stage baselines: simple classifiers on the same draws of labels, measured on the test split.

python -m stages.evaluate.baselines
"""

from stages.errors import reported

if __name__ == "__main__":
    with reported():
        from stages.evaluate.baselines.every_baseline import main

        main()
