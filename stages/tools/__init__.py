"""Commands that people run, beside the stages of the pipeline."""
