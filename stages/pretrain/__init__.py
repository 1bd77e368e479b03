"""Stage pretrain: train an encoder on images without their labels."""
