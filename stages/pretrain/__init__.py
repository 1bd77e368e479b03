"""Stage pretrain: images become an encoder."""
