"""Stage finetune: an encoder and a few labels become classifiers."""
