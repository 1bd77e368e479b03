"""An attack on a small project: rotten files, and kills at random moments.

    python -m tests.attack --minutes 10
    python -m tests.attack --seed 7 --only 12      (one case again, as the attack printed it)

It makes a project on a few dozen images in a temporary folder and runs it once. Then, until the time is over,
each case starts from a copy of that project. A *mutation* changes one file that a stage or a tool reads, and
runs one of its readers, or `dvc repro`. A *kill* ends a stage, DVC or both by a signal, and then recovers as
docs/pipeline.md says. A case is good if it was refused in words, healed, or gave the bytes of the unharmed
run; each other case is printed with its number. The exit status is 1 if there is one.
"""
