"""Stage finetune: trains classifiers from an encoder and a few labels."""
